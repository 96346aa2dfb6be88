"""`python -m embedded run`, which is what `make run` calls, mostly with a Procfile of stand-ins."""

import http.client
import json
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import jwt
import psutil  # type: ignore[import-untyped]  # it ships no types
import pytest

from contract.settings import JWT_KEY
from embedded.ports import find_free_port
from embedded.postgres import find_wheel_programs
from tests.forked import run_to_its_end
from tests.processes import left_of
from tests.servers import copy_cluster

ROOT = Path(__file__).parents[2]
WEB = "python -m http.server $PORT --bind 127.0.0.1"
SETTINGS = (
    "ADMIN_HOST ADMIN_PORT DATABASE_URL HOST JWT_ALGORITHMS JWT_KEY LOG_LEVEL PORT "
    "REDIS_URL SALT_REDIS_URL TRUSTED_PROXIES"
)
# Servers that are not started, where a test is not about them.
OWN = {"REDIS_URL": "redis://:s3cret@db/0", "DATABASE_URL": "postgresql://u:s3cret@db/impact"}
PUBLIC_KEY = "-----BEGIN PUBLIC KEY-----\nabc\n-----END PUBLIC KEY-----\n"
# Not ready until it is asked for the third time.
LATE = """
import http.server, os
class Page(http.server.BaseHTTPRequestHandler):
    asked = 0
    def do_GET(self):
        Page.asked += 1
        self.send_response(200 if Page.asked > 2 else 503)
        self.end_headers()
http.server.HTTPServer(("127.0.0.1", int(os.environ["ADMIN_PORT"])), Page).serve_forever()
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder as a clone under root's own: no other user may enter.

    The rows have names of their own: those of the real ones would be asked whether they are ready.
    """
    tmp_path.chmod(0o700)
    write_procfile(tmp_path, front=WEB, idle="cat")
    return tmp_path


@pytest.fixture
def used_folder(folder: Path) -> Path:
    """The same with a PostgreSQL of an earlier run, since to make one takes a while."""
    postgres = folder / ".data" / "postgres"
    postgres.mkdir(parents=True)
    copy_cluster(postgres, find_wheel_programs())
    return folder


def write_procfile(folder: Path, **rows: str) -> None:
    lines = [f"{name}: {command}\n" for name, command in rows.items()]
    (folder / "Procfile").write_text("".join(lines))


def environment(extra: dict[str, str]) -> dict[str, str]:
    own = {name: value for name, value in os.environ.items() if name not in SETTINGS.split()}
    # Not the usual ones, which another test's run may be choosing at the same moment.
    admin = [find_free_port() for _ in range(3)]
    while admin[2] - admin[0] != 2:  # one between may be another test's
        admin = [*admin[1:], find_free_port()]
    ports = {"PORT": str(find_free_port()), "ADMIN_PORT": str(admin[0])}
    return own | {"PYTHONPATH": str(ROOT)} | ports | extra


def embedded(folder: Path, *arguments: str, **extra: str) -> subprocess.CompletedProcess[str]:
    """A command that ends by itself, and starts no other."""
    code, output, errors = run_to_its_end("embedded", arguments, environment(extra), folder)
    return subprocess.CompletedProcess(arguments, code, output, errors)


def run_embedded(folder: Path, **extra: str) -> subprocess.CompletedProcess[str]:
    """A run that ends by itself."""
    return subprocess.run(
        [sys.executable, "-m", "embedded", "run"],
        cwd=folder,
        env=environment(extra),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@contextmanager
def running(folder: Path, **extra: str) -> Iterator[tuple[subprocess.Popen[str], list[str]]]:
    """A run that has printed its banner, and the lines until then."""
    with subprocess.Popen(
        [sys.executable, "-m", "embedded", "run"],
        cwd=folder,
        env=environment(extra),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        stdin=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        assert process.stdout is not None
        lines: list[str] = []
        try:
            for line in process.stdout:
                lines.append(line)
                if line.startswith("  PostgreSQL  "):
                    break
            yield process, lines
        finally:
            process.terminate()
            process.communicate(timeout=60)


def end(process: subprocess.Popen[str], number: signal.Signals) -> list[psutil.Process]:
    """Send a signal, wait for the end; what is left of the processes there were."""
    family = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(number)
    process.communicate(timeout=60)
    return left_of(family)


def test_each_run_finds_the_data_of_the_one_before_and_a_signal_stops_all_of_it(
    used_folder: Path,
) -> None:
    """With success and nothing left over; a run that is killed leaves no process either."""
    psql = ("psql", "-A", "-t", "-c")
    ends = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]
    if sys.platform == "linux":  # only Linux signals a parent's death
        ends.append(signal.SIGKILL)
    for run, number in enumerate(ends):
        with running(used_folder) as (process, _):
            if run == 0:
                made = embedded(used_folder, *psql, "CREATE TABLE kept AS SELECT 42 AS answer")
                assert made.returncode == 0, made.stderr
                second = embedded(used_folder, "run")
                assert second.returncode == 1
                assert f"pid {process.pid}" in second.stderr
                assert second.stderr.count("\n") == 1
            found = embedded(used_folder, *psql, "SELECT answer FROM kept")
            assert found.stdout == "42\n"
            assert end(process, number) == []
            if number is not signal.SIGKILL:
                assert process.returncode == 0
                assert not (used_folder / ".data" / "run.json").exists()


def test_a_release_row_that_fails_or_a_process_that_ends_by_itself_ends_the_run(
    folder: Path,
) -> None:
    """The release row runs first; whatever ended is named in one line."""
    write_procfile(folder, release="sh -c 'echo no schema today; exit 3'", web=WEB)
    result = run_embedded(folder, **OWN)
    assert result.returncode == 1
    assert "no schema today" in result.stdout
    assert "web started" not in result.stdout
    assert result.stderr.startswith("release (")
    assert result.stderr.count("\n") == 1
    write_procfile(folder, web=WEB, worker="sh -c 'exit 7'")
    result = run_embedded(folder, **OWN)
    assert result.returncode == 1
    assert result.stderr.startswith("worker (sh -c 'exit 7') ended by itself with status 7")


def test_the_last_three_lines_say_where_to_look_and_what_to_try_works(folder: Path) -> None:
    """With the real Procfile: what a terminal of 80 columns and 24 lines shows at the end."""
    shutil.copy(ROOT / "Procfile", folder)
    with running(folder) as (process, lines):
        shown = [line.rstrip("\n") for line in lines]
        url = shown[-3].removeprefix("  collector   ")
        assert url.startswith("http://127.0.0.1:")
        assert shown[-2] == f"  demo page   {url}/demo"
        assert shown[-1].startswith("  PostgreSQL  postgresql://postgres@127.0.0.1:")
        banner = shown[shown.index("  Try, in another terminal in this folder:") :]
        assert len(banner) < 24
        # The interpreter is .venv/bin/python in a clone, and longer here.
        widths = [len(line.replace(sys.executable, ".venv/bin/python")) for line in banner]
        assert max(widths) <= 80, banner
        at = next(n for n, line in enumerate(shown) if line.startswith("    curl "))
        curl = shlex.split(shown[at].removesuffix("\\") + shown[at + 1])  # it goes on there
        assert (curl[1:3], curl[4]) == (["-X", "POST"], "-A")
        address, _, path = curl[3].removeprefix("http://").partition("/")
        collector = http.client.HTTPConnection(address, timeout=60)
        collector.request("POST", f"/{path}", headers={"User-Agent": curl[5]})
        assert collector.getresponse().status == 201
        collector.close()
        others = [*shown[shown.index(banner[0]) : at], *shown[at + 2 :]]
        tried = [line.strip() for line in others if line.startswith("    ")]
        script = "\n".join(["set -e", *tried]).replace("10000", "100")
        result = subprocess.run(
            ["/bin/sh", "-c", script],
            cwd=folder,
            env=environment({}),
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )
        assert (result.returncode, len(tried)) == (0, 5), result.stdout + result.stderr
        process.send_signal(signal.SIGINT)
        after, _ = process.communicate(timeout=60)
        assert "SIGINT received" in after.splitlines()[0]
        assert process.returncode == 0


def test_a_run_on_servers_of_ones_own_starts_none_and_waits_until_all_is_ready(
    folder: Path,
) -> None:
    """Their passwords are not repeated."""
    (folder / "late.py").write_text(LATE)
    write_procfile(folder, front=WEB, worker="python late.py")
    with running(folder, **OWN) as (_, lines):
        shown = embedded(folder, "env")
    pages = [line for line in lines if "GET /readyz" in line]
    assert [page.split()[-2] for page in pages] == ["503", "503", "200"]
    assert "s3cret" not in "".join(lines)
    assert "/demo\n" in "".join(lines)
    assert OWN["REDIS_URL"] in shown.stdout
    assert OWN["DATABASE_URL"] in shown.stdout
    assert not (folder / ".data" / "valkey").exists()
    assert not (folder / ".data" / "postgres").exists()


def settings_seen(folder: Path, *names: str, **extra: str) -> list[str]:
    """What a process of a run has in its environment under these names."""
    program = f"import json, os; print('seen', json.dumps([os.environ.get(n) for n in {names}]))"
    write_procfile(folder, worker=f'python -c "{program}"')
    result = run_embedded(folder, **extra)
    line = next(line for line in result.stdout.splitlines() if "seen [" in line)
    seen: list[str] = json.loads(line.partition("seen ")[2])
    return seen


def test_the_usual_admin_ports_are_left_to_a_process_that_has_them(folder: Path) -> None:
    """Else another system's readiness would be taken for our own."""
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        with suppress(OSError):  # another process has it already
            taken.bind(("127.0.0.1", 9100))
            taken.listen()
        assert settings_seen(folder, "ADMIN_PORT", ADMIN_PORT="", **OWN) != ["9100"]


def test_processes_get_the_servers_and_the_demo_settings(used_folder: Path) -> None:
    names = ["REDIS_URL", "DATABASE_URL", "JWT_KEY", "TRUSTED_PROXIES", "DEMO", "ADMIN_PORT"]
    names += ["DEMO_TOKEN", "LOG_LEVEL", "HOST", "JWT_ALGORITHMS"]
    values = settings_seen(used_folder, *names, TRUSTED_PROXIES="10.0.0.0/8", ADMIN_PORT="19100")
    redis_url, database_url, key, proxies, demo, admin, token, level, host, algorithms = values
    assert redis_url.startswith("redis://127.0.0.1:")
    assert database_url.startswith("postgresql://postgres@127.0.0.1:")
    assert (proxies, demo, admin, level) == ("10.0.0.0/8", "1", "19101", "warning")
    assert (host, algorithms) == ("127.0.0.1", "HS256"), "no other machine gets the token"
    assert jwt.decode(token, key, algorithms=["HS256"])["sub"] == "demo-user"


@pytest.mark.parametrize(
    ("own", "algorithms"),
    [
        ({"JWT_KEY": "the platform's, of more than thirty-two bytes"}, "HS256"),
        ({"JWT_KEY": PUBLIC_KEY, "JWT_ALGORITHMS": "RS256"}, "RS256,HS256"),
    ],
)
def test_a_platforms_key_signs_nothing_here(
    folder: Path, own: dict[str, str], algorithms: str
) -> None:
    """Its tokens are good; those that are given away are signed with a key of this run's."""
    names = ("JWT_KEY", "JWT_ALGORITHMS", "DEMO_TOKEN", "HOST")
    keys, accepted, token, host = settings_seen(folder, *names, HOST="127.0.0.2", **own, **OWN)
    platforms, demo_key = JWT_KEY.read({"JWT_KEY": keys})
    assert platforms == own["JWT_KEY"].strip()
    assert (accepted, host) == (algorithms, "127.0.0.2")
    assert jwt.decode(token, demo_key, algorithms=["HS256"])["sub"] == "demo-user"


def test_a_token_is_signed_with_the_demo_key(folder: Path) -> None:
    """Which no other account of the machine can read."""
    with running(folder, **OWN):
        token = embedded(folder, "token", "--user", "7", "--role", "admin").stdout.strip()
        file = folder / ".data" / "run.json"
        assert file.stat().st_mode & 0o777 == 0o600
        key = json.loads(file.read_text())["jwt_key"]
    claims = jwt.decode(token, key, algorithms=["HS256"])
    assert (claims["sub"], claims["highest_role"]) == ("7", "admin")
    assert claims.keys() == {"sub", "highest_role", "exp"}


def test_a_taken_port_is_named_before_anything_starts(folder: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        result = embedded(folder, "run", PORT=str(port))
    assert result.returncode == 1
    assert f"PORT={port + 1} make run" in result.stderr
    assert result.stdout == ""


@pytest.mark.parametrize(
    ("words", "extra", "status", "said"),
    [
        ("run", {"PORT": "http"}, 2, "PORT: 'http'"),
        ("run", {"ADMIN_PORT": "70000"}, 2, "ADMIN_PORT: '70000'"),
        ("run", {"HOST": "192.0.2.1"}, 2, "HOST: 192.0.2.1 is no address of this machine"),
        ("run", {"ADMIN_HOST": "192.0.2.1"}, 2, "ADMIN_HOST: 192.0.2.1 is no address of this"),
        ("run --data file/data", {}, 1, "the data folder file/data can't be used"),
        ("env", {}, 1, "make run"),
        ("psql", {}, 1, "make run"),
        ("token", {}, 1, "make run"),
    ],
)
def test_what_can_not_work_is_explained_in_one_line(
    words: str, extra: dict[str, str], status: int, said: str, folder: Path
) -> None:
    (folder / "file").touch()
    result = embedded(folder, *words.split(), **extra)
    assert result.returncode == status
    assert said in result.stderr
    assert result.stderr.count("\n") == 1
