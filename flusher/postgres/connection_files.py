"""The files that asyncpg reads on its way to PostgreSQL, and which of them is in the way.

It says which rarely: a key that can't be looked at is a PermissionError, a certificate that is not
there a FileNotFoundError without a name, and an unreadable password file is a wrong password.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final
from urllib.parse import parse_qs, urlsplit

# A parameter of the DSN, the variable that stands for it, and the file in the home folder that is
# looked for without either.
_FILES: Final = (
    ("sslrootcert", "PGSSLROOTCERT", ".postgresql/root.crt"),
    ("sslcrl", "PGSSLCRL", ".postgresql/root.crl"),
    ("sslcert", "PGSSLCERT", ".postgresql/postgresql.crt"),
    ("sslkey", "PGSSLKEY", ".postgresql/postgresql.key"),
    ("passfile", "PGPASSFILE", ".pgpass"),
)
_VERIFYING: Final = ("verify-ca", "verify-full")


def file_in_the_way(dsn: str) -> str | None:
    """What is wrong with which of the files, and what to do about it; None: with none of them."""
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
                f"{path} can't be looked at ({error.strerror}): let this process read it, or give "
                "it a HOME that is empty or not there (systemd: ProtectHome=tmpfs), or name "
                f"another file by {origin}"
            )
    return None


def _files(query: dict[str, list[str]]) -> Iterator[tuple[Path, str, bool]]:
    """Each file's path, what names it or could, and whether it has to be there."""
    verifies = (query.get("sslmode") or [os.environ.get("PGSSLMODE", "")])[-1] in _VERIFYING
    for parameter, variable, default in _FILES:
        if named := query.get(parameter):
            yield Path(named[-1]), f"?{parameter}=", True
        elif in_environment := os.environ.get(variable):
            yield Path(in_environment), variable, True
        else:
            try:
                home = Path.home()
            except RuntimeError:  # nobody knows where it is
                continue
            yield home / default, f"?{parameter}=", verifies and parameter == "sslrootcert"
