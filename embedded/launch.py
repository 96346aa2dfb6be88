"""Decides how a server is started: under which account, and how it learns that its parent is gone.

Linux can send a process a signal when its parent ends, even by SIGKILL, and can let an account
reach files below folders it may not enter. Both are asked for through util-linux's `setpriv`;
without it (macOS, small containers) the server still starts, but outlives a killed parent.
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
    """A user and a group, by number."""

    uid: int
    gid: int


@dataclass(frozen=True)
class Launch:
    """A command as Popen takes it; `account` is what Popen must switch to, None for no switch."""

    command: Sequence[str]
    account: Account | None


def account_for(folder: Path) -> Account | None:
    """The account for a server that refuses to run as root; None when we aren't root.

    The owner of `folder`, so that data made by an ordinary user stays that user's, else `nobody`.
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
) -> Launch:
    """How to start `command`, which works in `folder`, as `account` (None: as ourselves).

    `parent_death` is sent to it when the thread that started it ends.
    """
    setpriv = _find_setpriv()
    if setpriv is None:
        return Launch(command, account)
    options = [f"--pdeathsig={parent_death.name.removeprefix('SIG')}"]
    if account is not None:
        options += [f"--reuid={account.uid}", f"--regid={account.gid}", "--clear-groups"]
        if not _open_to_others(Path(command[0]), folder):
            # For a clone below a folder that only root may enter. Nobody's folders are chmod-ed
            # for it; and a server that doesn't need the capability doesn't get it, since whoever
            # may run SQL as its superuser may use it.
            options += ["--inh-caps=+dac_override", "--ambient-caps=+dac_override"]
            # Else access(2), with which PostgreSQL looks for its own programs, leaves it out.
            options.append("--securebits=+no_setuid_fixup")
    return Launch([setpriv, *options, "--", *command], None)


def _find_setpriv() -> str | None:
    if sys.platform != "linux":
        return None
    found = shutil.which("setpriv")
    # BusyBox has one too, without --pdeathsig and --reuid.
    if found is None or Path(found).resolve().name != "setpriv":
        return None
    return found


def _open_to_others(program: Path, folder: Path) -> bool:
    """Whether any account can run `program` and come to `folder`."""
    on_the_way = [program, *program.parents, *program.resolve().parents, *folder.resolve().parents]
    return all(path.stat().st_mode & stat.S_IXOTH for path in on_the_way)
