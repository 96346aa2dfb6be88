"""The files that asyncpg reads when it connects, and which of them can't be read.

asyncpg's errors rarely name the file: an unreadable key is a PermissionError, a missing certificate
a FileNotFoundError without a name, and an unreadable password file looks like a wrong password.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final
from urllib.parse import parse_qs, urlsplit

# The DSN's parameter, the environment variable instead of it, and the file in the home folder that
# is used if neither is set.
_FILES: Final = (
    ("sslrootcert", "PGSSLROOTCERT", ".postgresql/root.crt"),
    ("sslcrl", "PGSSLCRL", ".postgresql/root.crl"),
    ("sslcert", "PGSSLCERT", ".postgresql/postgresql.crt"),
    ("sslkey", "PGSSLKEY", ".postgresql/postgresql.key"),
    ("passfile", "PGPASSFILE", ".pgpass"),
)
_VERIFYING: Final = ("verify-ca", "verify-full")


def file_in_the_way(dsn: str) -> str | None:
    """Which file can't be read, and what to do about it; None: all can be read."""
    try:
        query = parse_qs(urlsplit(dsn).query)
    except ValueError:
        return None
    for path, origin, needed in _files(query):
        try:
            with path.open("rb"):
                continue
        except (FileNotFoundError, NotADirectoryError) as error:
            if needed:
                return f"{origin} names {path}, which can't be read: {error.strerror}"
        except OSError as error:
            return (
                f"{path} can't be read ({error.strerror}): let this process read it, or give it a "
                "HOME that is empty or does not exist (systemd: ProtectHome=tmpfs), or name "
                f"another file with {origin}"
            )
    return None


def _files(query: dict[str, list[str]]) -> Iterator[tuple[Path, str, bool]]:
    """Each file's path, the parameter or variable for it, and whether the file must exist."""
    verifies = (query.get("sslmode") or [os.environ.get("PGSSLMODE", "")])[-1] in _VERIFYING
    for parameter, variable, default in _FILES:
        if named := query.get(parameter):
            yield Path(named[-1]), f"?{parameter}=", True
        elif in_environment := os.environ.get(variable):
            yield Path(in_environment), variable, True
        else:
            try:
                home = Path.home()
            except RuntimeError:  # this user has no home folder
                continue
            yield home / default, f"?{parameter}=", verifies and parameter == "sslrootcert"
