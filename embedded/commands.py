"""The commands `token`, `env` and `psql`, for the running system, and the tokens of its users."""

import os
import shlex

import jwt

from contract.calendar import SECOND_US
from embedded.data_folder import DataFolder
from embedded.errors import CannotRun
from embedded.postgres import find_wheel_programs
from runtime.clock import wall_clock

DEMO_ALGORITHM = "HS256"


def sign_token(*, key: str, user: str, role: str | None, now: int, minutes: int) -> str:
    """A JWT that expires `minutes` after `now` (seconds since 1970), signed with a demo key."""
    claims: dict[str, str | int] = {"sub": user, "exp": now + 60 * minutes}
    if role is not None:
        claims["highest_role"] = role
    return jwt.encode(claims, key, algorithm=DEMO_ALGORITHM)


def print_token(data: DataFolder, user: str, role: str | None) -> None:
    """Prints a token that the running system accepts for an hour."""
    key = data.running_system().jwt_key
    now = wall_clock() // SECOND_US
    print(sign_token(key=key, user=user, role=role, now=now, minutes=60))


def print_environment(data: DataFolder) -> None:
    """Prints the running system's settings as lines for a shell."""
    system = data.running_system()
    for name, value in (
        ("REDIS_URL", system.redis_url),
        ("DATABASE_URL", system.database_url),
        ("JWT_KEY", system.jwt_key),
    ):
        print(f"export {name}={shlex.quote(value)}")


def become_psql(data: DataFolder, arguments: list[str]) -> None:
    """Replaces this process with psql on the running system's database."""
    program = find_wheel_programs() / "psql"
    database_url = data.running_system().database_url
    try:
        os.execv(program, [str(program), f"--dbname={database_url}", *arguments])  # noqa: S606 - it needs no shell
    except OSError as error:
        raise CannotRun(f"{program} can't be run ({error}): try make install") from error
