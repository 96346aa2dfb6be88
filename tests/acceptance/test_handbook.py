"""`docs/operations.md`: its commands run as they are written, its tables are complete."""

import asyncio
import os
import re
import sys
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from uuid import uuid4

import asyncpg
import pytest
from prometheus_client import CollectorRegistry
from redis.asyncio import Redis

from collector.process import SETTINGS as COLLECTOR
from contract import keys
from contract.collector_metrics import CollectorMetrics
from contract.flusher_metrics import FlusherMetrics
from contract.metrics import ProcessMetrics, RotationMetrics
from contract.record import FIELD, encode
from embedded.postgres import PostgresServer, find_wheel_programs
from flusher.postgres.database import Database
from flusher.postgres.write import SessionWriter
from flusher.process import SETTINGS as FLUSHER
from rotation.__main__ import SETTINGS as ROTATION
from tests.events import batch_of, start, upgrade
from tests.handbook import blocks, every_block, section
from tests.instant import UTC
from tests.servers import POSTGRES_SETTINGS, CopiedPostgres, Flavour, Servers, execute
from tests.system import ROOT, System, eventually, run_successfully

BACKUP = "Backup and restore"


def rows(name: str) -> dict[str, str]:
    """A section's table's rows, by the name at their head."""
    return dict(re.findall(r"^\| `(\w+)` \| (.*) \|$", section(name), re.MULTILINE))


async def run(command: str, folder: Path, programs: Path, environment: Mapping[str, str]) -> str:
    """Runs a command as an operator would, in the project's folder; its output."""
    if not (folder / "deploy").exists():
        (folder / "deploy").symlink_to(ROOT / "deploy")
    process = await asyncio.create_subprocess_exec(
        *("bash", "-euc", command),
        cwd=folder,
        env={
            **os.environ,
            **environment,
            "PATH": f"{Path(sys.executable).parent}:{programs}:{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT),
        },
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    assert process.returncode == 0, f"{command}\n{output.decode()}"
    return output.decode()


async def test_every_command_runs_as_it_is_written(
    embedded_servers: Servers, dsn: str, redis: Redis, tmp_path: Path
) -> None:
    """On a system that runs, each once; a restore has its own test."""
    assert await redis.dbsize() == 0
    others = [each for each in dict.fromkeys(every_block("sh")) if each not in blocks(BACKUP, "sh")]
    assert len(others) >= 8
    with System(embedded_servers.redis.url, dsn, tmp_path / "logs") as system:
        collector, _, _ = await system.start("collector", "flusher", "rotation")
        for command in others:
            assert await run(command, tmp_path, find_wheel_programs(), collector.environment)


def dsn_as(server: PostgresServer, role: str) -> str:
    return server.dsn().replace("postgres@", f"{role}@")


def postgres_in(folder: Path, programs: Path) -> PostgresServer:
    return CopiedPostgres(folder, bin_dir=programs, settings=POSTGRES_SETTINGS)


@pytest.fixture
async def deployed(flavour: Flavour, tmp_path: Path) -> AsyncIterator[PostgresServer]:
    """Migrated, with the roles as they are shipped."""
    programs = flavour.postgres_programs or find_wheel_programs()
    await asyncio.to_thread(tmp_path.chmod, 0o755)
    with postgres_in(tmp_path / "first", programs) as server:
        await execute(server.dsn(), (ROOT / "deploy/postgres-roles.sql").read_text())
        owner = dsn_as(server, "impact_owner")
        await run_successfully("flusher", "migrate", DATABASE_URL=owner)
        yield server


async def test_a_backup_is_restored_on_a_fresh_server_and_flushers_go_on(
    embedded_servers: Servers, redis: Redis, tmp_path: Path, deployed: PostgresServer
) -> None:
    """With the roles as they are shipped, which the fresh server does not know."""
    with postgres_in(tmp_path / "fresh", deployed.programs) as fresh:
        before = batch_of(start(), start(role="user"))
        async with Database(dsn_as(deployed, "impact_flusher")) as database:
            await SessionWriter(database, UTC).write(before)

        urls = {
            "DATABASE_URL": dsn_as(deployed, "impact_owner"),
            "NEW_SUPERUSER_URL": fresh.dsn(),
            "NEW_DATABASE_URL": dsn_as(fresh, "impact_owner"),
        }
        outputs = [
            await run(command, tmp_path, deployed.programs, urls)
            for command in blocks(BACKUP, "sh")
        ]
        assert len(outputs) == 5
        assert "note:" not in "".join(outputs)

        await redis.xadd(keys.stream(0), {FIELD: encode(start())})
        flusher_url = dsn_as(fresh, "impact_flusher")
        with System(embedded_servers.redis.url, flusher_url, tmp_path / "logs") as system:
            await system.start("flusher")
            reader = await asyncpg.connect(fresh.dsn())
            assert await reader.fetchval("SELECT current_setting('jit')") == "off"
            await reader.execute("SET ROLE impact_reader")

            async def counted() -> int:
                return int(await reader.fetchval("SELECT sum(sessions) FROM monthly_impact"))

            await eventually(counted, lambda sessions: sessions == 3)
            assert await reader.fetchval("SELECT count(*) FROM sessions") == 3
            await reader.close()
        assert await redis.xlen(keys.dead_letters(0)) == 0


async def test_a_site_that_should_not_be_there_is_removed_from_everything(
    deployed: PostgresServer, tmp_path: Path
) -> None:
    """With the rights of impact_flusher; the other site, and the checks, stay right."""
    flusher = {"DATABASE_URL": dsn_as(deployed, "impact_flusher")}
    junk = [start(site="junk.example.com"), start(site="junk.example.com", role="user")]
    waiting = upgrade(uuid4().bytes, site="junk.example.com")
    async with Database(flusher["DATABASE_URL"]) as database:
        writer = SessionWriter(database, UTC)
        await writer.write(batch_of(*junk, waiting, start(site="city.example.org")))
    see, take_out, check = blocks("A site that should not be there", "sh")
    assert "junk.example.com" in await run(see, tmp_path, deployed.programs, flusher)
    for command in (take_out, check):
        await run(command, tmp_path, deployed.programs, flusher)
    again = await run(see, tmp_path, deployed.programs, flusher)
    assert "city.example.org" in again
    assert "junk.example.com" not in again
    superuser = await asyncpg.connect(deployed.dsn())
    for table in await superuser.fetch(
        "SELECT c.table_schema || '.' || c.table_name AS name FROM information_schema.columns c"
        " WHERE c.column_name = 'site' AND c.table_schema IN ('public', 'flusher')"
    ):
        query = f"SELECT count(*) FROM {table['name']} WHERE site = 'junk.example.com'"
        assert await superuser.fetchval(query) == 0, table["name"]
    await superuser.close()


@pytest.mark.parametrize("module", ["collector", "flusher", "rotation"])
def test_a_process_logs_every_setting_that_it_reads(module: str) -> None:
    """So that the table of docs/settings.md is right, too."""
    text = "".join(path.read_text() for path in (ROOT / module).glob("*.py"))
    read = set(re.findall(r"settings\.([A-Z_]+)\.read\(", text))
    # Beside the demo's, those that only one of its commands reads.
    read -= {"REDIS_CLUSTER", "DEMO", "DEMO_TOKEN"}
    read -= {"collector": {"DATABASE_URL"}, "flusher": {"SITES"}}.get(module, set())
    logged = {"collector": COLLECTOR, "flusher": FLUSHER, "rotation": ROTATION}[module]
    assert read <= {each.name for each in logged}


def test_every_metric_is_there_with_its_process_and_its_meaning() -> None:
    meanings = {}
    for process, metrics in {
        "all": ProcessMetrics,
        "collector": CollectorMetrics,
        "flusher": FlusherMetrics,
        "rotation": RotationMetrics,
    }.items():
        registry = CollectorRegistry()
        metrics(registry)
        for family in registry.collect():
            name = f"{family.name}_total" if family.type == "counter" else family.name
            meanings[name] = f"{process}: {family.documentation}"
    shown = {name: row.partition(" | ")[2].strip("| ") for name, row in rows("Metrics").items()}
    assert shown == meanings
