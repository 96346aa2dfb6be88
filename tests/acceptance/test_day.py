"""A day of operations on a bare Debian 12, by the commands of `docs/operations.md`, under load."""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from uuid import uuid4

import pytest

from contract.version import VERSION
from tests.debian_tree import DebianTree
from tests.handbook import EVERY_BLOCK, blocks

pytestmark = [pytest.mark.long, pytest.mark.timeout(1800)]

SET_UP = blocks("On Debian 12, all on one host")
_PROGRAM, _ALL_ARE_READY = SET_UP[1], SET_UP[-1]
_CHECKOUT, _NEXT_CHECKOUT = "/root/impact", "/root/impact-next"
_NEXT_VERSION = "999.0.0"
_PORTS = ("9100", "9110", "9101", "9111", "9102")


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
        for port in _PORTS:
            metrics = host.run(f"curl -sS http://127.0.0.1:{port}/metrics").stdout
            assert f'impact_build_info{{version="{_NEXT_VERSION}"}} 1.0' in metrics

    assert {answer for _, answer in answers} == {"201"}
    sent = sorted(session for session, _ in answers)
    count = f"SELECT count(*) FROM sessions WHERE site = '{site}'"
    host.eventually(f'cd /; [ $(su postgres -c "psql -tA impact" <<< "{count}") = {len(sent)} ]')
    assert sorted(day.query(f"SELECT id FROM sessions WHERE site = '{site}'")) == sent
    assert day.query("SELECT count(*) FROM sessions WHERE site = 'trial.example.org'") == ["100"]
    assert set(EVERY_BLOCK) == {*SET_UP, *day.typed}, "a block that no test runs"


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
        "curl -sS --fail -X POST -A 'Mozilla/5.0 (X11; Linux) Gecko/20100101 Firefox/140.0' "
        f"-H 'Host: {site}' -H 'Authorization: Bearer {token}' http://127.0.0.1/web_api/v1/sessions"
    )
    count = f"SELECT count(*) FROM sessions WHERE site = '{site}' AND highest_role = 'admin'"
    day.host.eventually(f'cd /; [ $(su postgres -c "psql -tA impact" <<< "{count}") = 1 ]')
