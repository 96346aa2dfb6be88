"""`deploy/` and `docs/operations.md` on a bare Debian 12 with a real systemd, no byte altered."""

import re

import pytest

from tests.debian_tree import DebianTree
from tests.handbook import blocks
from tests.system import ROOT

pytestmark = [pytest.mark.long, pytest.mark.timeout(1800)]

COMMANDS = blocks("On Debian 12, all on one host")
COLLECTORS = ("impact-collector@9100", "impact-collector@9110")
PORTS = ("9100", "9110", "9101", "9111", "9102")
_BROWSER = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"


_ROWS = "cd /; su postgres -c 'psql -tAc \"SELECT count(*) FROM sessions\" impact'"


def count_rows(host: DebianTree) -> int:
    return int(host.run(_ROWS).stdout)


def test_a_session_goes_through_the_shipped_site_to_its_row(host: DebianTree) -> None:
    """Beside Debian's default site, on IPv4 and IPv6, under any name."""
    before = count_rows(host)
    for url in ("http://127.0.0.1", "http://[::1]", "http://localhost"):
        beacon = f"curl -sS -X POST -A '{_BROWSER}' -w '%{{http_code}}' {url}/web_api/v1/sessions"
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


def test_systemd_finds_nothing_wrong_with_the_units_as_they_are(host: DebianTree) -> None:
    units = " ".join(path.name for path in (ROOT / "deploy/systemd").glob("*.service"))
    done = host.run(f"cd /etc/systemd/system && systemd-analyze verify --man=no {units}")
    assert done.stdout == ""


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
    host.run(COMMANDS[-1])


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
    beacon = f"curl -sS --fail -X POST -A '{_BROWSER}' http://127.0.0.1/web_api/v1/sessions"
    host.run(beacon)
    host.run(f"cp /root/collector.env {env}; impact restart")
    assert host.run(show_pid).stdout != before
    host.run(COMMANDS[-1])
