"""The embedded servers and the forked programs: what the other tests and `make run` rely on."""

import asyncio
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import asyncpg
import psutil  # type: ignore[import-untyped]  # it ships no types
import pytest
from redis import Redis

from embedded.errors import ServerDidNotStart
from embedded.postgres import PostgresServer, find_wheel_programs
from embedded.server_process import ServerProcess
from embedded.valkey import ValkeyServer
from tests.processes import left_of
from tests.servers import CopiedPostgres
from tests.system import ROOT

REDIS = Path("/usr/bin/redis-server")
POSTGRES_15 = Path("/usr/lib/postgresql/15/bin")
MakeServer = Callable[[Path], ServerProcess]
MAKERS = [
    pytest.param(ValkeyServer, id="valkey"),
    pytest.param(
        lambda folder: ValkeyServer(folder, binary=REDIS),
        id="redis",
        marks=pytest.mark.skipif(not REDIS.exists(), reason="no Redis is installed"),
    ),
    pytest.param(CopiedPostgres, id="postgresql"),
    pytest.param(
        lambda folder: CopiedPostgres(folder, bin_dir=POSTGRES_15),
        id="postgresql-15",
        marks=pytest.mark.skipif(not POSTGRES_15.exists(), reason="no PostgreSQL 15 is installed"),
    ),
]


@pytest.fixture(params=MAKERS)
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[ServerProcess]:
    """Each server in turn, started, its data below a folder that only we may enter."""
    tmp_path.chmod(0o700)
    make: MakeServer = request.param
    with make(tmp_path / "data") as started:
        yield started


def remember(server: ServerProcess) -> None:
    """Write one thing durably."""
    if isinstance(server, ValkeyServer):
        with Redis.from_url(server.url) as client:
            client.config_set("appendfsync", "always")
            client.set("remembered", "yes")
    elif isinstance(server, PostgresServer):
        run_sql(server, "CREATE TABLE remembered AS SELECT 1")


def remembers(server: ServerProcess) -> bool:
    """Whether that one thing is still there."""
    if isinstance(server, ValkeyServer):
        with Redis.from_url(server.url) as client:
            return bool(client.get("remembered") == b"yes")
    assert isinstance(server, PostgresServer)
    return run_sql(server, "SELECT to_regclass('remembered') IS NOT NULL") is True


def run_sql(server: PostgresServer, query: str) -> object:
    async def ask() -> object:
        connection = await asyncpg.connect(server.dsn())
        try:
            return await connection.fetchval(query)
        finally:
            await connection.close()

    return asyncio.run(ask())


def test_however_a_server_ends_its_data_and_port_stay_and_no_process_does(
    server: ServerProcess,
) -> None:
    remember(server)
    port = server.port
    for end in ("stop", "kill", "stop while frozen"):
        main = psutil.Process(server.pid)
        processes = [main, *main.children(recursive=True)]
        if end == "stop while frozen":
            server.freeze()
        if end == "kill":
            server.kill()
        else:
            server.stop()
        # A process that dies closes its files a while before the kernel takes it off the list.
        assert left_of(processes, 10) == [], end
        assert not server.is_running
        server.start()
        assert remembers(server), end
    os.kill(server.pid, signal.SIGKILL)  # the postmaster's children outlive it for a moment
    server.restart()
    assert remembers(server)
    assert server.port == port


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
    with ExitStack() as stack:
        given: list[set[bytes]] = []
        for _ in range(2):
            process = stack.enter_context(
                subprocess.Popen(
                    [sys.executable, "-c", program],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    cwd=ROOT,
                )
            )
            assert process.stdout is not None
            given.append(set(process.stdout.readline().split()))
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
        remember(server)
        server.restart()
        assert remembers(server)
    assert closed.stat().st_mode & 0o777 == 0o700


_STARTED = {
    "Valkey": "from embedded.valkey import ValkeyServer\nstarted = ValkeyServer(folder).start()",
    "PostgreSQL": (
        "from embedded.postgres import PostgresServer\n"
        "started = PostgresServer(folder, sync=False).start()"
    ),
    "a forked program": (
        "from tests.forked import ForkedProcess\n"
        "settings = {'REDIS_URL': 'redis://127.0.0.1:1', 'ADMIN_PORT': '0'}\n"
        "started = ForkedProcess('rotation', [], settings, folder / 'log', folder / 'log')"
    ),
}


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux signals a parent's death")
@pytest.mark.parametrize("kind", _STARTED)
def test_ends_with_who_started_it_however_that_ends(kind: str, tmp_path: Path) -> None:
    """It would go on for days, and take a core's time from all tests that come."""
    program = f"""
import pathlib, sys
folder = pathlib.Path(sys.argv[1])
{_STARTED[kind]}
print(started.pid, flush=True)
sys.stdin.read()
"""
    with subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=ROOT,
    ) as starter:
        assert starter.stdout is not None
        started = psutil.Process(int(starter.stdout.readline()))
        family = [started, *started.children(recursive=True)]
        if kind == "a forked program":
            family.append(started.parent())  # the server that forks
        starter.kill()
    assert left_of(family) == []
