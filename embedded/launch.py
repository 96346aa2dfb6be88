"""Decides how a server is started: with which account, and how it ends with its parent.

Linux can send a process a signal when its parent ends in any way, and can let an account use files
below folders that it may not enter. The program `setpriv` (util-linux) sets both. Without it
(macOS, small containers) the server starts, but outlives a killed parent.
"""

import os
import pwd
import shutil
import signal
import stat
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Account:
    """The numbers of a user and a group."""

    uid: int
    gid: int


def account_for(folder: Path) -> Account | None:
    """The account for a server that refuses to run as root; None if we are not root.

    It is the owner of `folder`, so that a user's data stays the user's; for root it is `nobody`.
    """
    if os.geteuid() != 0:
        return None
    owner = folder.stat()
    if owner.st_uid != 0:
        return Account(owner.st_uid, owner.st_gid)
    nobody = pwd.getpwnam("nobody")
    return Account(nobody.pw_uid, nobody.pw_gid)


def plan_launch(
    command: Sequence[str],
    *,
    parent_death: signal.Signals,
    account: Account | None,
    folder: Path,
) -> tuple[Sequence[str], Account | None]:
    """How to start `command`, which uses `folder`, with `account` (None: ours).

    It gets the signal `parent_death` when the thread that started it ends.

    Returns the command for Popen, and the account that Popen must switch to, if any.
    """
    setpriv = _find_setpriv()
    if setpriv is None:
        return command, account
    options = [f"--pdeathsig={parent_death.name.removeprefix('SIG')}"]
    if account is not None:
        options += [f"--reuid={account.uid}", f"--regid={account.gid}", "--clear-groups"]
        if not _open_to_others(Path(command[0]), folder):
            # For a clone below a folder that only root may enter: we do not change the folder's
            # mode. Servers that do not need this capability do not get it, because every superuser
            # of the database can use it.
            options += ["--inh-caps=+dac_override", "--ambient-caps=+dac_override"]
            # Otherwise access(2), with which PostgreSQL finds its programs, ignores it.
            options.append("--securebits=+no_setuid_fixup")
    return [setpriv, *options, "--", *command], None


def _find_setpriv() -> str | None:
    if sys.platform != "linux":
        return None
    found = shutil.which("setpriv")
    # BusyBox's setpriv lacks --pdeathsig and --reuid.
    if found is None or Path(found).resolve().name != "setpriv":
        return None
    return found


def _open_to_others(program: Path, folder: Path) -> bool:
    """Whether every account can run `program` and enter `folder`."""
    on_the_way = [program, *program.parents, *program.resolve().parents, *folder.resolve().parents]
    return all(path.stat().st_mode & stat.S_IXOTH for path in on_the_way)
