"""A bare Debian 12 with its own systemd, for what an operator does on a host.

    why_not = debian_tree.missing()          # None, or why there can be none here
    with debian_tree.boot(folder) as tree:   # some 10 s; the first time minutes, to fetch Debian
        tree.run("systemctl is-active redis-server")

It has no network but its own loopback, so its ports are its own, and nothing of the host: what a
test needs is put into `tree.root` first (`put_checkout`, `put_wheels`). Debian's packages come from
wherever apt gets this machine's; the bare tree is kept in `.data/`, and copied for each boot.
"""

import fcntl
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Final

import psutil  # type: ignore[import-untyped]  # it ships no types

from tests.system import ROOT

RELEASE: Final = "bookworm"
# What docs/operations.md has an operator install.
PACKAGES: Final = (
    "python3-venv",
    "redis-server",
    "postgresql",
    "nginx-light",
    "prometheus",
    "curl",
)
_ALWAYS: Final = ("systemd", "systemd-sysv", "dbus", "ca-certificates")
_BOOT_SECONDS: Final = 120.0
_POLL_SECONDS: Final = 0.2


def missing() -> str | None:
    """Why no tree can be booted here; None where one can."""
    if sys.platform != "linux":
        return "not Linux"
    if os.geteuid() != 0:
        return "not root, which a container's systemd needs"
    for program, package in (("systemd-nspawn", "systemd-container"), ("debootstrap",) * 2):
        if shutil.which(program, path=_PATH) is None:
            return f"no {program} here (Debian: {package})"
    if not Path("/sys/fs/cgroup").is_mount():
        return "no control groups here"
    return None


@dataclass(frozen=True, slots=True)
class DebianTree:
    """A booted one. `root` is its folder as the host sees it."""

    root: Path
    leader: int

    def run(self, command: str, *, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Runs a bash command in it, as root; its output, errors included.

        An AssertionError with the output where it fails, unless `check` is False.
        """
        done = subprocess.run(
            [*_inside(self.leader), "bash", "-euo", "pipefail", "-c", command],
            env={"PATH": _PATH, "HOME": "/root", "LANG": "C.UTF-8"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        assert not check or done.returncode == 0, f"{command}\n{done.stdout}"
        return done

    def eventually(self, command: str, seconds: float = 60.0) -> str:
        """Runs a command until it succeeds; its output."""
        deadline = time.monotonic() + seconds
        while (done := self.run(command, check=False)).returncode != 0:
            assert time.monotonic() < deadline, f"not within {seconds} s: {command}\n{done.stdout}"
            time.sleep(_POLL_SECONDS)  # between two questions
        return done.stdout

    def put_checkout(self, folder: str) -> None:
        """Puts this project's files there, as a clone has them."""
        names = subprocess.run(
            [*_GIT, "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for name in filter(None, names.split("\0")):
            if (source := ROOT / name).exists():
                target = self.root / folder.lstrip("/") / name
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(source, target)

    def put_wheels(self) -> None:
        """Has its pip find what production installs, without a network."""
        wheels = self.root / "var/lib/wheels"
        wheels.mkdir()
        # Whatever Python they are for: the tree's may need one that ours does not.
        lock = (ROOT / "requirements/production.txt").read_text()
        requirements = wheels / "requirements.txt"
        requirements.write_text(re.sub(r" ; [^\\\n]*", " ", lock))
        subprocess.run(
            [
                *(sys.executable, "-m", "pip", "download", "--quiet", "--quiet"),
                *("--disable-pip-version-check", "--no-deps", "--dest", str(wheels)),
                *("--python-version", "3.11", "--only-binary", ":all:"),  # the tree's Python
                *("--require-hashes", "-r", str(requirements)),
            ],
            check=True,
        )
        (self.root / "etc/pip.conf").write_text(
            "[global]\nno-index = true\nfind-links = /var/lib/wheels\n"
        )


@contextmanager
def boot(folder: Path, packages: Sequence[str] = PACKAGES) -> Iterator[DebianTree]:
    """Boots a copy in `folder`; it is shut down and removed at the end."""
    root = folder / "tree"
    subprocess.run(
        ["/bin/cp", "-a", "--reflink=auto", str(_bare_tree(packages)), str(root)], check=True
    )
    # Without a bus of the host's, where it would be registered.
    alone = ("--private-network", "--register=no", "--keep-unit", "--resolv-conf=off")
    with (folder / "boot.log").open("wb") as log:
        machine = subprocess.Popen(
            [*_WITH_US, *_NSPAWN, "-D", str(root), "--boot", *alone, "--link-journal=no"],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    try:
        tree = DebianTree(root, _leader(machine, folder / "boot.log"))
        tree.eventually(
            "[[ $(systemctl is-system-running || true) =~ running|degraded ]]", _BOOT_SECONDS
        )
        yield tree
    finally:
        machine.send_signal(signal.SIGTERM)  # to nspawn: shut down
        try:
            machine.wait(60)
        except subprocess.TimeoutExpired:
            machine.kill()
            machine.wait()
        shutil.rmtree(root)


_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_GIT: Final = ("/usr/bin/git",)
_NSPAWN: Final = ("/usr/bin/systemd-nspawn",)
# Gone when the tests are, however they end.
_WITH_US: Final = ("/usr/bin/setpriv", "--pdeathsig", "KILL")


def _inside(leader: int) -> list[str]:
    return ["/usr/bin/nsenter", "--target", str(leader), "--all", "--wdns=/root"]


def _leader(machine: "subprocess.Popen[bytes]", log: Path) -> int:
    """The tree's PID 1, as the host numbers it, once it is systemd."""
    deadline = time.monotonic() + _BOOT_SECONDS
    while time.monotonic() < deadline:
        assert machine.poll() is None, f"it did not boot:\n{log.read_text(errors='replace')}"
        for child in psutil.Process(machine.pid).children():
            if child.name() == "systemd":
                return int(child.pid)
        time.sleep(_POLL_SECONDS)  # between two questions
    raise AssertionError(f"it did not boot:\n{log.read_text(errors='replace')}")


def _bare_tree(packages: Sequence[str]) -> Path:
    """Debian with these packages and what they need, made once."""
    included = ",".join([*_ALWAYS, *packages])
    name = f"debian-{RELEASE}-{sha256(included.encode()).hexdigest()[:12]}"
    tree = ROOT / ".data" / name
    making = tree.with_suffix(".making")
    tree.parent.mkdir(exist_ok=True)
    with tree.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # other test workers wait for this one
        if tree.exists():
            return tree
        # One that was interrupted has left it mounted.
        subprocess.run(["/usr/bin/umount", str(making / "proc")], capture_output=True, check=False)
        shutil.rmtree(making, ignore_errors=True)
        command = ["/usr/sbin/debootstrap", "--variant=minbase", f"--include={included}"]
        command += [RELEASE, str(making), _mirror()]
        made = subprocess.run(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
        )
        assert made.returncode == 0, made.stdout[-2000:]
        return making.rename(tree)


def _mirror() -> str:
    """Where apt gets this machine's packages of the release."""
    lines = subprocess.run(
        [
            *("/usr/bin/apt-get", "indextargets"),
            *("--format", "$(CODENAME) $(COMPONENT) $(SITE)", "Created-By: Packages"),
        ],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    for line in lines:
        codename, component, site = line.split()
        if (codename, component) == (RELEASE, "main"):
            return site
    raise AssertionError(f"apt knows no mirror of {RELEASE}")
