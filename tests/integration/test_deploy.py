"""`deploy/`: what can be checked of it without deploying."""

import asyncio
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml  # type: ignore[import-untyped]  # it ships no types
from redis.asyncio import Redis

from collector.http import server
from contract import settings
from contract.setting import Setting
from tests.handbook import blocks
from tests.servers import Servers
from tests.system import ROOT, System, eventually, run_command

DEPLOY = ROOT / "deploy"
COMPOSE = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]
UNITS = sorted((DEPLOY / "systemd").glob("*.service"))
SETTINGS = {each.name for each in vars(settings).values() if isinstance(each, Setting)} | {
    "ADMIN_PORT"
}
# Names in capitals that are others' settings.
OTHERS = {"POSTGRES_USER", "POSTGRES_DB", "POSTGRES_PASSWORD", "PYTHONUNBUFFERED", "PATH"}


def named_metrics(text: str) -> set[str]:
    """Our metrics in a text; a histogram's series as the histogram."""
    found = re.findall(r"\b(impact_[a-z_]+?)(?:_bucket|_sum|_count)?\b(?!/)", text)
    return set(found) - {"impact_collectors"}


def containers() -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Each container of Kubernetes, behind the job or deployment that it is of."""
    for document in yaml.safe_load_all((DEPLOY / "kubernetes/impact.yaml").read_text()):
        if document and document["kind"] in ("Job", "Deployment"):
            for container in document["spec"]["template"]["spec"]["containers"]:
                yield document, container


def test_every_setting_that_is_set_exists() -> None:
    named = {name for each in COMPOSE.values() for name in each.get("environment", {})}
    named |= set(re.findall(r"\$\{(\w+)", (DEPLOY / "compose.yaml").read_text()))
    for _, container in containers():
        named |= {each["name"] for each in container.get("env", ())}
    dockerfile = (DEPLOY / "Dockerfile").read_text()
    named |= set(re.findall(r"\b([A-Z_]+)=", dockerfile))
    assert named - OTHERS <= SETTINGS
    assert named & SETTINGS >= {"REDIS_URL", "DATABASE_URL", "TRUSTED_PROXIES"}


def test_every_program_that_is_started_is_one_of_the_procfile() -> None:
    started = [
        each["command"] for name, each in COMPOSE.items() if name not in ("redis", "postgres")
    ]
    started += [container["command"] for _, container in containers()]
    for unit in UNITS:
        (command,) = re.findall(r"^ExecStart=(.*)$", unit.read_text(), re.MULTILINE)
        started.append(command.replace("/opt/impact/.venv/bin/python", "python").split())
    procfile = {line.partition(": ")[2] for line in (ROOT / "Procfile").read_text().splitlines()}
    assert {" ".join(command) for command in started} == procfile


def test_what_stops_a_collector_waits_until_it_is_drained() -> None:
    drain = server.FAREWELL_SECONDS + server.DRAIN_SECONDS
    text = (DEPLOY / "systemd/impact-collector@.service").read_text()
    (unit,) = re.findall(r"^TimeoutStopSec=(\d+)$", text, re.MULTILINE)
    assert int(unit) > drain
    assert int(COMPOSE["web"]["stop_grace_period"].removesuffix("s")) > drain
    for document, container in containers():
        if document["kind"] == "Deployment" and "collector" in document["metadata"]["name"]:
            (pause,) = container["lifecycle"]["preStop"]["exec"]["command"][-1:]
            seconds = int(re.findall(r"sleep\((\d+)\)", pause)[0])
            pod = document["spec"]["template"]["spec"]
            assert pod["terminationGracePeriodSeconds"] > drain + seconds


def test_every_process_of_kubernetes_is_probed_and_runs_without_root() -> None:
    found = 0
    for document, container in containers():
        assert container["securityContext"]["allowPrivilegeEscalation"] is False
        assert document["spec"]["template"]["spec"]["securityContext"]["runAsNonRoot"]
        if document["kind"] == "Deployment":
            found += 1
            assert container["livenessProbe"]["httpGet"]["path"] == "/livez"
            assert container["readinessProbe"]["httpGet"]["path"] == "/readyz"
    assert found == 3


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_systemd_accepts_the_units(unit: Path, tmp_path: Path) -> None:
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("no systemd-analyze here")
    # Where the units expect it is nothing; any program will do for the check.
    text = unit.read_text().replace("/opt/impact/.venv/bin/python", "/bin/true")
    copy = tmp_path / unit.name
    copy.write_text(text)
    result = subprocess.run(
        [analyze, "verify", "--man=no", str(copy)], capture_output=True, text=True, check=False
    )
    ours = [line for line in result.stderr.splitlines() if unit.name.partition("@")[0] in line]
    assert (result.returncode, ours) == (0, []), result.stderr


def test_every_unit_runs_in_the_same_sandbox_and_is_never_given_up() -> None:
    def settings_of(unit: Path) -> list[str]:
        text = unit.read_text()
        assert "StartLimitIntervalSec=0\n" in text.partition("[Service]")[0], unit.name
        sandbox = text.partition("\nNoNewPrivileges=yes\n")[2].partition("\n[Install]")[0]
        return [line for line in sandbox.splitlines() if not line.startswith("#")]

    first, *others = [settings_of(unit) for unit in UNITS]
    assert "ProtectSystem=strict" in first
    for sandbox in others:
        assert [line for line in sandbox if line] == [line for line in first if line]


def test_every_unit_has_its_sample_of_settings() -> None:
    for unit in UNITS:
        files = re.findall(r"^EnvironmentFile=/etc/impact/(.*)$", unit.read_text(), re.MULTILINE)
        assert files[0] == "common.env"
        for name in files:
            sample = (DEPLOY / "systemd" / name).read_text()
            assert {line.partition("=")[0] for line in sample.splitlines() if line[0] != "#"} <= (
                SETTINGS - {"ADMIN_PORT"}
            ), "ADMIN_PORT is the instance's name"


def test_the_handbook_gives_every_account_a_password_of_its_own(tmp_path: Path) -> None:
    """The placeholders in `deploy/` are public."""
    (block,) = [each for each in blocks("On Debian 12, all on one host") if "_PASSWORD" in each]
    (loop,) = re.findall(r"^for .*^done$", block, re.MULTILINE | re.DOTALL)
    shutil.copytree(DEPLOY / "systemd", tmp_path / "impact")
    (tmp_path / "redis").mkdir()
    shutil.copy(DEPLOY / "redis-users.acl", tmp_path / "redis/impact.acl")
    subprocess.run(["/bin/bash", "-euc", loop.replace("/etc/", f"{tmp_path}/")], check=True)
    users = (tmp_path / "redis/impact.acl").read_text()
    samples = [path.read_text() for path in (tmp_path / "impact").glob("*.env")]
    assert "_PASSWORD" not in "".join([users, *samples])
    accounts = re.findall(r"^user (?!default )\S+ on >(\w+) ", users, re.MULTILINE)
    assert len(set(accounts)) == len(accounts) == users.count("\nuser ")
    # The commands of the processes and of people find theirs.
    replica = accounts[-1]
    for password in accounts:
        assert password == replica or password in "".join(samples)


async def test_honcho_runs_the_procfile_as_the_handbook_says(
    embedded_servers: Servers, dsn: str, redis: Redis, tmp_path: Path
) -> None:
    assert await redis.dbsize() == 0
    commands = re.findall(
        r"honcho start [-a-z0-9 ]*[a-z]", (ROOT / "docs/operations.md").read_text()
    )
    (command,) = {each for each in commands if "--port" in each}
    with System(embedded_servers.redis.url, dsn, tmp_path) as system:
        words = command.replace("--port 8000", f"--port {system.port}").split()
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", *words),
            cwd=ROOT,
            env={
                **os.environ,
                **system.environment,
                "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
                "PORT": "",
                "ADMIN_PORT": "0",
            },
        )

        async def is_served() -> bool:
            assert process.returncode is None
            with suppress(aiohttp.ClientError):
                async with aiohttp.ClientSession() as http, http.get(system.url) as answer:
                    return answer.status == 404
            return False

        await eventually(is_served, seconds=60)
        process.terminate()
        await process.wait()


def test_promtool_accepts_the_configuration_and_each_alert_fires_when_it_should() -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("no promtool here (Debian: prometheus)")
    for arguments in (
        ("check", "config", "prometheus.yaml"),
        ("check", "rules", "alerts.yaml"),
        ("test", "rules", "alerts_test.yaml"),
    ):
        result = subprocess.run(
            [promtool, *arguments],
            cwd=DEPLOY / "prometheus",
            capture_output=True,
            text=True,
            check=False,
        )
        assert result.returncode == 0, result.stdout + result.stderr


def test_alerts_are_in_the_handbook_and_ask_with_the_dashboard_for_existing_metrics() -> None:
    # `tests/acceptance/test_handbook.py` compares its table with what there is.
    handbook = (ROOT / "docs/operations.md").read_text()
    _, _, section = handbook.partition("\n## Metrics\n")
    there = named_metrics(section.partition("\n## ")[0])
    (group,) = yaml.safe_load((DEPLOY / "prometheus/alerts.yaml").read_text())["groups"]
    for rule in group["rules"]:
        assert f"`{rule['alert']}`" in handbook
    alerts = " ".join(rule["expr"] for rule in group["rules"])
    assert named_metrics(alerts) <= there
    dashboard = json.loads((DEPLOY / "grafana-dashboard.json").read_text())
    shown = " ".join(target["expr"] for panel in dashboard["panels"] for target in panel["targets"])
    assert named_metrics(shown) == there, "each is on a panel"


async def test_the_health_check_of_the_image_fails_where_nothing_answers() -> None:
    (check,) = re.findall(r"HEALTHCHECK.*\\\n\s*CMD (\[.*\])", (DEPLOY / "Dockerfile").read_text())
    _, _, program = json.loads(check)
    code, _, _ = await run_command("timeit", "-n1", "-r1", program, ADMIN_PORT="1")
    assert code != 0
