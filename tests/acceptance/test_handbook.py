"""`docs/operations.md`: its commands run as they are written, its tables are complete."""

import asyncio
import os
import re
import sys
from pathlib import Path

import pytest
from redis.asyncio import Redis

from collector.__main__ import SETTINGS as COLLECTOR
from contract import settings
from contract.settings import Setting
from embedded.postgres import find_wheel_programs
from flusher.__main__ import SETTINGS as FLUSHER
from rotation.__main__ import SETTINGS as ROTATION
from tests.integration.test_deploy import metric_names
from tests.servers import Servers
from tests.system import ROOT, PythonSystem

HANDBOOK = (ROOT / "docs/operations.md").read_text()
COMMANDS = [
    block.strip()
    for block in re.findall(r"^ *```sh\n(.*?)^ *```$", HANDBOOK, re.MULTILINE | re.DOTALL)
]


def rows(section: str) -> dict[str, str]:
    """A table's rows, by the name at their head."""
    (text,) = re.findall(rf"^## {section}$(.*?)(?:^## |\Z)", HANDBOOK, re.MULTILINE | re.DOTALL)
    return dict(re.findall(r"^\| `(\w+)` \| (.*) \|$", text, re.MULTILINE))


async def test_every_command_runs_as_it_is_written(
    embedded_servers: Servers, dsn: str, redis: Redis, tmp_path: Path
) -> None:
    """On a system that runs."""
    assert await redis.dbsize() == 0
    assert len(COMMANDS) >= 9
    programs = find_wheel_programs()
    with PythonSystem(embedded_servers.redis.url, dsn, tmp_path / "logs") as system:
        collector, _, _ = await system.start("collector", "flusher", "rotation")
        environment = {
            **os.environ,
            **collector.environment,
            "PATH": f"{Path(sys.executable).parent}:{programs}:{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT),
        }
        for command in COMMANDS:
            process = await asyncio.create_subprocess_exec(
                *("bash", "-euc", command),
                cwd=tmp_path,
                env=environment,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
            )
            output, _ = await process.communicate()
            assert process.returncode == 0, f"{command}\n{output.decode()}"
            assert output or "pg_dump" in command, command
    assert (tmp_path / "impact.dump").stat().st_size > 0


def test_every_setting_is_there_with_its_default_its_processes_and_its_meaning() -> None:
    told = rows("Settings")
    declared = {each.name for each in vars(settings).values() if isinstance(each, Setting)}
    assert set(told) | {"REDIS_CLUSTER", "DEMO", "DEMO_TOKEN"} == declared | {"ADMIN_PORT"}
    processes = {"C": COLLECTOR, "F": FLUSHER, "R": ROTATION}
    for name, row in told.items():
        default, whose, meaning = row.split(" | ")
        users = [letter for letter, its in processes.items() if name in {s.name for s in its}]
        assert whose.split() == users, name
        (setting, *_) = [s for its in processes.values() for s in its if s.name == name]
        assert meaning == setting.meaning, name
        if name != "ADMIN_PORT":
            shown = {"required": None, "none": ""}.get(default, default.strip("`"))
            assert (setting.default or "") == (shown or "") or setting.default == "none", name


@pytest.mark.parametrize("module", ["collector", "flusher", "rotation"])
def test_a_process_logs_every_setting_that_it_reads(module: str) -> None:
    """So that the table is right, too."""
    text = "".join(path.read_text() for path in (ROOT / module).glob("*.py"))
    read = set(re.findall(r"settings\.([A-Z_]+)\.read\(", text))
    # Beside the demo's, those that only one of its commands reads.
    read -= {"REDIS_CLUSTER", "DEMO", "DEMO_TOKEN"}
    read -= {"collector": {"DATABASE_URL"}, "flusher": {"SITES"}}.get(module, set())
    logged = {"collector": COLLECTOR, "flusher": FLUSHER, "rotation": ROTATION}[module]
    assert read <= {each.name for each in logged}


def test_every_metric_is_there() -> None:
    families = {
        name.removesuffix("_bucket").removesuffix("_sum").removesuffix("_count")
        for name in metric_names()
    }
    assert set(rows("Metrics")) == families


def test_every_link_leads_somewhere() -> None:
    for target in re.findall(r"\]\(([^)#:]+)\)", HANDBOOK):
        assert (ROOT / "docs" / target).exists(), target
