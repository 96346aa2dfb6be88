"""The embedded servers and the forked programs: what the other tests and `make run` rely on."""

import asyncio
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import asyncpg
import psutil  # type: ignore[import-untyped]  # it ships no types
import pytest
from redis import Redis
from redis.exceptions import TimeoutError as RedisTimeoutError

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


def processes_of(server: ServerProcess) -> list[psutil.Process]:
    main = psutil.Process(server.pid)
    return [main, *main.children(recursive=True)]


def still_alive(processes: list[psutil.Process]) -> list[psutil.Process]:
    """Those that run on.

    The kernel closes a dying process's files, by which we know of its end, before it takes it off
    the list, which may be a while on a busy machine.
    """
    return left_of(processes, 10)


def killed_by_another(server: ServerProcess) -> None:
    """The postmaster's children outlive it for a moment."""
    os.kill(server.pid, signal.SIGKILL)


def stopped_while_frozen(server: ServerProcess) -> None:
    server.freeze()
    server.stop()


def test_however_a_server_ends_its_data_and_port_stay_and_no_process_does(
    server: ServerProcess,
) -> None:
    remember(server)
    port = server.port
    for end in (ServerProcess.stop, ServerProcess.kill, stopped_while_frozen, killed_by_another):
        processes = processes_of(server)
        end(server)
        if end is killed_by_another:
            server.restart()
        else:
            assert still_alive(processes) == [], end
            assert not server.is_running
            server.start()
        assert remembers(server), end
    assert server.port == port


def test_a_frozen_server_keeps_connections_and_answers_once_thawed(tmp_path: Path) -> None:
    with (
        ValkeyServer(tmp_path) as server,
        Redis.from_url(server.url) as patient,
        Redis.from_url(server.url, socket_timeout=0.2) as impatient,
    ):
        patient.ping()
        server.freeze()
        with pytest.raises(RedisTimeoutError):
            impatient.ping()
        server.thaw()
        assert patient.ping()


def test_a_server_outlives_the_thread_that_started_it_and_another_is_started_in_an_event_loop(
    tmp_path: Path,
) -> None:
    """Linux reports a parent's death when the thread ends that started the child."""
    server = ValkeyServer(tmp_path / "valkey")
    starter = threading.Thread(target=server.start)
    starter.start()
    starter.join()

    async def start() -> bool:
        with PostgresServer(tmp_path / "postgres", sync=False) as postgres:
            return postgres.is_running

    try:
        with Redis.from_url(server.url) as client:
            assert client.ping()
        assert asyncio.run(start())
    finally:
        server.stop()


def test_servers_run_side_by_side_in_folders_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("embedded.server_process._GONE_SECONDS", 0.1)
    with (
        ValkeyServer(tmp_path / "a") as one,
        ValkeyServer(tmp_path / "b") as other,
        PostgresServer(tmp_path / "c", sync=False) as third,
        PostgresServer(tmp_path / "d", sync=False) as fourth,
    ):
        assert len({one.port, other.port, third.port, fourth.port}) == 4
        remember(one)
        remember(third)
        assert not remembers(other)
        assert not remembers(fourth)
        with pytest.raises(ServerDidNotStart, match="another server uses the data"):
            ValkeyServer(tmp_path / "a").start()


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
                    cwd=Path(__file__).parents[2],
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


def test_settings_reach_the_server(tmp_path: Path) -> None:
    config = {"maxmemory": "64mb", "save": "3600 1 300 100"}
    with (
        ValkeyServer(tmp_path, config=config) as server,
        Redis.from_url(server.url) as client,
    ):
        assert client.config_get("maxmemory") == {"maxmemory": str(64 * 1024 * 1024)}
        assert client.config_get("save") == {"save": "3600 1 300 100"}
        assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}
        assert client.config_get("appendonly") == {"appendonly": "yes"}


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


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux signals a parent's death")
@pytest.mark.parametrize("kind", ["valkey.ValkeyServer", "postgres.PostgresServer"])
def test_ends_with_its_parent_however_that_ends(kind: str, tmp_path: Path) -> None:
    module, name = kind.split(".")
    program = (
        "import pathlib, sys\n"
        f"from embedded.{module} import {name}\n"
        f"server = {name}(pathlib.Path(sys.argv[1])).start()\n"
        "print(server.pid, flush=True)\n"
        "sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parents[2],
    ) as parent:
        assert parent.stdout is not None
        server = psutil.Process(int(parent.stdout.readline()))
        processes = [server, *server.children(recursive=True)]
        parent.kill()
    assert left_of(processes) == []


_PROGRAM = """
import sys
from pathlib import Path
from tests.forked import ForkedProcess
log = Path(sys.argv[1])
environment = {"REDIS_URL": "redis://127.0.0.1:1", "ADMIN_PORT": "0"}
print(ForkedProcess("rotation", [], environment, log, log).pid, flush=True)
sys.stdin.read()
"""


def test_a_program_is_gone_when_who_started_it_is_killed(tmp_path: Path) -> None:
    """It would go on for days, and take a core's time from all tests that come."""
    with subprocess.Popen(
        [sys.executable, "-c", _PROGRAM, str(tmp_path / "log")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=ROOT,
    ) as asked:
        assert asked.stdout is not None
        program = psutil.Process(int(asked.stdout.readline()))
        family = [program, program.parent()]
        asked.kill()
    assert left_of(family) == []
