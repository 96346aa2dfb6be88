"""The embedded servers: what the other tests and `make run` rely on."""

import shutil
import socket
import subprocess
import sys
from functools import partial
from pathlib import Path
from subprocess import PIPE

import pytest

from embedded.errors import ServerDidNotStart
from embedded.postgres import PostgresServer, find_wheel_programs
from embedded.valkey import ValkeyServer
from tests.system import ROOT


@pytest.mark.parametrize("kind", [ValkeyServer, PostgresServer])
def test_a_taken_port_and_a_missing_program_are_named(
    kind: type[ValkeyServer | PostgresServer], tmp_path: Path
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ServerDidNotStart, match=f"port {port} of 127.0.0.1 is taken") as caught:
            kind(tmp_path / "data", port=port).start()
    assert "\n" not in str(caught.value)
    gone = tmp_path / "gone"
    server = (
        ValkeyServer(tmp_path / "data", binary=gone)
        if kind is ValkeyServer
        else PostgresServer(tmp_path / "data", bin_dir=gone)
    )
    with pytest.raises(ServerDidNotStart, match=f"there is no program {gone}"):
        server.start()


def test_no_folder_has_two_servers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("embedded.server_process._GONE_SECONDS", 0.1)
    second = ValkeyServer(tmp_path)
    with (
        ValkeyServer(tmp_path),
        pytest.raises(ServerDidNotStart, match="another server uses the data"),
    ):
        second.start()


def test_no_two_processes_are_given_the_same_port() -> None:
    """Whose user has yet to listen, or is being restarted. Before, both went through all ports from
    a place drawn at random, which is the same place here.
    """
    program = (
        "import random, sys\n"
        "random.seed(14)\n"
        "from embedded.ports import find_free_port\n"
        "print(*(find_free_port() for _ in range(300)), flush=True)\n"
        "sys.stdin.read()\n"
    )
    command = [sys.executable, "-c", program]
    start = partial(subprocess.Popen[bytes], command, stdin=PIPE, stdout=PIPE, cwd=ROOT)
    with start() as one, start() as other:
        assert one.stdout is not None
        assert other.stdout is not None
        given = [set(each.readline().split()) for each in (one.stdout, other.stdout)]
    assert all(given)
    assert not given[0] & given[1]


def test_a_wrong_setting_or_a_half_made_cluster_is_no_trap(tmp_path: Path) -> None:
    """The setting is reported in the server's own words. What is left by a run that was killed
    while it made the cluster is made anew.
    """
    (tmp_path / "cluster.new").mkdir()
    (tmp_path / "cluster.new" / "PG_VERSION").write_text("18")
    with pytest.raises(ServerDidNotStart, match="no_such_setting") as caught:
        PostgresServer(tmp_path, settings={"no_such_setting": "1"}, sync=False).start()
    assert "\n" not in str(caught.value)
    assert str(tmp_path / "server.log") in str(caught.value)
    with PostgresServer(tmp_path, sync=False) as server:
        assert server.is_running


def test_programs_may_lie_below_a_folder_only_we_may_enter(tmp_path: Path) -> None:
    """As in a clone below root's home: PostgreSQL gives up root and still reaches them."""
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    wheel = find_wheel_programs().parents[1]
    # The programs, and the libraries that a wheel keeps in a folder next to its package.
    for folder in wheel.parent.glob(f"{wheel.name}*"):
        shutil.copytree(folder, closed / folder.name, symlinks=True)
    bin_dir = closed / find_wheel_programs().relative_to(wheel.parent)
    with PostgresServer(closed / "data", bin_dir=bin_dir, sync=False) as server:
        assert server.is_running
    assert closed.stat().st_mode & 0o777 == 0o700
