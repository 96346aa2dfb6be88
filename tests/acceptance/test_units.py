"""`deploy/` and `docs/operations.md` on a bare Debian 12 with a real systemd, no byte altered."""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from uuid import uuid4

import pytest

from contract.version import VERSION
from tests.acceptance.conftest import FIREFOX
from tests.debian_tree import DebianTree
from tests.handbook import blocks, every_block
from tests.system import ROOT

pytestmark = [pytest.mark.long, pytest.mark.timeout(1800)]

COMMANDS = blocks("On Debian 12, all on one host")
_PROGRAM, _ALL_ARE_READY = COMMANDS[1], COMMANDS[-1]
_CHECKOUT, _NEXT_CHECKOUT = "/root/impact", "/root/impact-next"
_NEXT_VERSION = "999.0.0"
COLLECTORS = ("impact-collector@9100", "impact-collector@9110")
PORTS = ("9100", "9110", "9101", "9111", "9102")


class Day:
    """The host, and what was typed."""

    def __init__(self, host: DebianTree) -> None:
        self.host = host
        self.typed: list[str] = []

    def types(self, command: str, folder: str = _CHECKOUT) -> None:
        self.typed.append(command)
        self.host.run(f"cd {folder}\n{command}")

    def does(self, heading: str, folder: str = _CHECKOUT) -> None:
        """What is below it; then all are ready."""
        for command in blocks(heading):
            self.types(command, folder)
        self.host.run(_ALL_ARE_READY)

    def query(self, sql: str, port: int = 5432) -> list[str]:
        return self.host.run(
            f'cd /; su postgres -c "psql --port {port} -tA impact" <<< "{sql}"'
        ).stdout.split()

    def setting(self, file: str, pattern: str) -> str:
        (value,) = re.findall(pattern, (self.host.root / f"etc/impact/{file}").read_text())
        return str(value)

    def is_refused(self, redis_user: str, password: str) -> bool:
        ping = f"redis-cli -e --user {redis_user} --pass {password} PING"
        return "WRONGPASS" in self.host.run(ping, check=False).stdout

    @contextmanager
    def requests(self, site: str) -> Iterator[list[tuple[str, str]]]:
        """Thirty launches a second through nginx; at the end the id and the answer of each."""
        file = f"/root/{site}"
        program = f"/opt/impact-{VERSION}/.venv/bin/python {_CHECKOUT}/tests/beacons.py"
        self.host.run(
            "systemd-run --quiet --unit=beacons --property=RemainAfterExit=yes "
            f"{program} http://127.0.0.1 {site} {file}"
        )
        self.host.eventually(f"[ $(wc -l < {file}) -gt 20 ]")
        answers: list[tuple[str, str]] = []
        try:
            yield answers
        finally:
            self.host.run("systemctl stop beacons")
        for line in (self.host.root / file.lstrip("/")).read_text().splitlines():
            session, _, answer = line.partition(" ")
            answers.append((session, answer))


def test_a_day_of_the_handbook_loses_nothing_and_fails_no_request(host: DebianTree) -> None:
    day = Day(host)
    site = f"{uuid4().hex}.example.org"
    with day.requests(site) as answers:
        day.does("The operator's account")
        day.does("Try it")
        day.does("Look")
        _backs_up_and_restores(day)
        _changes_passwords(day)
        _changes_the_platforms_key(day)
        day.does("A new salt")

        day.does("More or fewer shards")
        assert len(json.loads(host.run("impact flusher status --json").stdout)["shards"]) == 16

        host.run(f"cp -R {_CHECKOUT} {_NEXT_CHECKOUT}")
        host.run(
            f'sed -i \'s/"{VERSION}"/"{_NEXT_VERSION}"/\' {_NEXT_CHECKOUT}/contract/version.py'
        )
        day.types(_PROGRAM, _NEXT_CHECKOUT)
        day.does("Upgrade", _NEXT_CHECKOUT)
        for port in PORTS:
            metrics = host.run(f"curl -sS http://127.0.0.1:{port}/metrics").stdout
            assert f'impact_build_info{{version="{_NEXT_VERSION}"}} 1.0' in metrics

    assert {answer for _, answer in answers} == {"201"}
    sent = sorted(session for session, _ in answers)
    count = f"SELECT count(*) FROM sessions WHERE site = '{site}'"
    host.eventually(f'cd /; [ $(su postgres -c "psql -tA impact" <<< "{count}") = {len(sent)} ]')
    assert sorted(day.query(f"SELECT id FROM sessions WHERE site = '{site}'")) == sent
    assert day.query("SELECT count(*) FROM sessions WHERE site = 'trial.example.org'") == ["100"]
    assert set(every_block("bash")) == {*COMMANDS, *day.typed}, "a block that no test runs"


def _backs_up_and_restores(day: Day) -> None:
    ids = "SELECT id FROM sessions"
    before = set(day.query(ids))
    day.does("Back up")
    create, compare, drop = blocks("Restore elsewhere")
    day.types(create)
    restored = set(day.query(ids, 5433))
    assert before <= restored <= set(day.query(ids))
    assert day.query("SELECT sum(sessions) FROM monthly_impact", 5433) == [str(len(restored))]
    day.types(compare)
    day.types(drop)


def _changes_passwords(day: Day) -> None:
    urls = r"(?m)^{}=\w+://\w+[-_]{}:(\w+)@"
    old = {
        account: day.setting(f"{account}.env", urls.format("REDIS_URL", account))
        for account in ("collector", "rotation", "flusher")
    } | {"operator": day.setting("operator.env", "REDISCLI_AUTH=(.*)")}
    databases = {
        day.setting(f"{name}.env", r"(?m)^DATABASE_URL=(.*)$") for name in ("flusher", "migrate")
    }
    day.does("New passwords")
    for account, password in old.items():
        assert day.is_refused(f"impact-{account}", password)
    for url in databases:
        assert "password authentication" in day.host.run(f"psql {url}", check=False).stdout
    day.host.run("systemctl start impact-migrate; impact redis-cli PING")


def _changes_the_platforms_key(day: Day) -> None:
    day.does("A new `JWT_KEY`")
    key = day.setting("collector.env", r"(?m)^JWT_KEY=(\w+)$")
    claims = "{'sub': 'ada', 'highest_role': 'admin'}"
    token = day.host.run(
        f"/opt/impact/.venv/bin/python -c \"import jwt; print(jwt.encode({claims}, '{key}'))\""
    ).stdout.strip()
    site = f"{uuid4().hex}.example.org"
    day.host.run(
        f"curl -sS --fail -X POST -A '{FIREFOX}' "
        f"-H 'Host: {site}' -H 'Authorization: Bearer {token}' http://127.0.0.1/web_api/v1/sessions"
    )
    count = f"SELECT count(*) FROM sessions WHERE site = '{site}' AND highest_role = 'admin'"
    day.host.eventually(f'cd /; [ $(su postgres -c "psql -tA impact" <<< "{count}") = 1 ]')


_ROWS = "cd /; su postgres -c 'psql -tAc \"SELECT count(*) FROM sessions\" impact'"


def count_rows(host: DebianTree) -> int:
    return int(host.run(_ROWS).stdout)


def test_a_session_goes_through_the_shipped_site_to_its_row(host: DebianTree) -> None:
    """Beside Debian's default site, on IPv4 and IPv6, under any name."""
    before = count_rows(host)
    for url in ("http://127.0.0.1", "http://[::1]", "http://localhost"):
        beacon = f"curl -sS -X POST -A '{FIREFOX}' -w '%{{http_code}}' {url}/web_api/v1/sessions"
        assert host.run(beacon).stdout.endswith("201")
    host.eventually(f"[ $({_ROWS}) = {before + 3} ]")
    # Debian's own still answers requests without a name.
    assert "Welcome to nginx" in host.run("curl -sS --http1.0 -H Host: http://127.0.0.1").stdout


def test_no_placeholder_of_a_password_is_accepted(host: DebianTree) -> None:
    assert host.run("grep -r _PASSWORD /etc/impact /etc/redis", check=False).stdout == ""
    users = (ROOT / "deploy/redis-users.acl").read_text()
    accounts = re.findall(r"^user (\S+) on >(\w+) ", users, re.MULTILINE)
    assert len(accounts) == 5
    for user, placeholder in accounts:
        done = host.run(f"redis-cli -e --user {user} --pass {placeholder} PING", check=False)
        assert "WRONGPASS" in done.stdout
    for sample in (ROOT / "deploy/systemd").glob("*.env"):
        for url in re.findall(r"^DATABASE_URL=(.*)$", sample.read_text(), re.MULTILINE):
            done = host.run(f"psql {url} -c 'SELECT 1'", check=False)
            assert "password authentication failed" in done.stdout


def test_only_root_may_read_an_operators_files(host: DebianTree) -> None:
    """Passwords, and what they open."""
    modes = host.run("stat -c '%a %U' /etc/impact /etc/impact/operator.env").stdout.split("\n")
    assert modes == ["700 root", "600 root", ""]
    assert host.run("stat -c '%a %U' /usr/local/sbin/impact").stdout == "755 root\n"


def test_prometheus_scrapes_every_process_that_the_handbook_starts(host: DebianTree) -> None:
    # Ours alone: Prometheus shows what Debian's configuration scraped for five more minutes.
    up = 'query=sum(up{job=~"impact-.*"})'
    query = f"curl -sS -G http://127.0.0.1:9090/api/v1/query --data-urlencode '{up}'"
    host.eventually(f"{query} | grep -q '\"{len(PORTS)}\"'", 90)


def test_a_frozen_process_is_replaced_and_one_that_waits_for_a_server_is_not(
    host: DebianTree,
) -> None:
    """A flusher and a collector are frozen; meanwhile the others go without PostgreSQL."""
    pids = {
        unit: host.run(f"systemctl show --value -p MainPID {unit}").stdout.strip()
        for unit in (
            *("impact-flusher@9101", "impact-collector@9100"),
            *("impact-flusher@9111", "impact-collector@9110", "impact-rotation"),
        )
    }
    frozen = ("impact-flusher@9101", "impact-collector@9100")
    host.run("systemctl stop postgresql redis-server")
    for unit in frozen:
        host.run(f"kill -STOP {pids[unit]}")
    for unit in frozen:
        host.eventually(f"[ $(systemctl show --value -p NRestarts {unit}) = 1 ]", 120)
        assert "watchdog" in host.run(f"journalctl -u {unit} | grep -i watchdog").stdout
    host.run("systemctl start postgresql redis-server")
    for unit, pid in pids.items():
        if unit not in frozen:
            assert host.run(f"systemctl show --value -p MainPID {unit}").stdout.strip() == pid
    host.run(_ALL_ARE_READY)


def test_a_process_recovers_after_a_wrong_password_is_corrected(host: DebianTree) -> None:
    """Where systemd gives up after five times, as is its default, it ends as `failed` for good."""
    env, unit = "/etc/impact/flusher.env", "impact-flusher@9101"
    host.run(f"cp {env} /root/flusher.env; sed -i '/^DATABASE_URL/s/@/-wrong@/' {env}")
    host.run(f"systemctl restart {unit}", check=False)
    host.eventually(f"(( $(systemctl show --value -p NRestarts {unit}) > 5 ))", 300)
    host.run(f"cp /root/flusher.env {env}")
    host.eventually("curl -sS --fail http://127.0.0.1:9101/readyz", 120)


def test_systemctl_start_fails_at_once_for_a_wrong_setting(host: DebianTree) -> None:
    done = host.run("systemctl start impact-collector@one", check=False)
    host.run("systemctl stop impact-collector@one")
    assert done.returncode != 0
    assert "ADMIN_PORT" in host.run("journalctl -u impact-collector@one").stdout


def test_a_wrong_setting_reaches_one_instance_and_no_more(host: DebianTree) -> None:
    """`impact restart` goes from one to the next, and only while all is well."""
    env, first, second = "/etc/impact/collector.env", *COLLECTORS
    show_pid = f"systemctl show --value -p MainPID {second}"
    before = host.run(show_pid).stdout
    host.run(f"cp {env} /root/collector.env; echo MAX_CONNECTIONS=many >> {env}")
    done = host.run("impact restart", check=False)
    assert done.returncode != 0
    assert first in done.stdout
    assert host.run(show_pid).stdout == before
    beacon = f"curl -sS --fail -X POST -A '{FIREFOX}' http://127.0.0.1/web_api/v1/sessions"
    host.run(beacon)
    host.run(f"cp /root/collector.env {env}; impact restart")
    assert host.run(show_pid).stdout != before
    host.run(_ALL_ARE_READY)
