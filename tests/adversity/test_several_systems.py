"""Two systems divided by site, one on a Redis Cluster, and one database for reports over both."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg
import pytest

from bench.load.sent_log import Outcome
from contract import keys
from embedded.cluster import Cluster
from embedded.postgres import PostgresServer
from embedded.valkey import ValkeyServer
from tests.adversity.rig import DURABLE, FINE, Rig, on_cluster, under_load
from tests.reporting import admit_reporting, unite
from tests.servers import POSTGRES_SETTINGS, CopiedPostgres
from tests.system import run_successfully

NORTH, SOUTH = ("a.example.org", "b.example.org"), ("c.example.org", "d.example.org")


@pytest.mark.long
async def test_every_2xx_of_both_is_a_row_of_the_report_whatever_is_killed(tmp_path: Path) -> None:
    """Each system's answers are reconciled with the reporting database's rows (`rig`)."""
    postgres = [
        CopiedPostgres(tmp_path / name, settings=POSTGRES_SETTINGS) for name in ("north", "south")
    ]
    with postgres[0] as north_rows, postgres[1] as south_rows:
        async with both(tmp_path, north_rows, south_rows) as (north, south, cluster):
            for server in postgres:
                await admit_reporting(server)
            dsn = await asyncio.to_thread(unite, north_rows, north=north_rows, south=south_rows)
            north.reports = south.reports = dsn
            reports = await asyncpg.connect(dsn)

            killed = cluster.primary_of(keys.stream(0))
            killed.kill()
            south_rows.kill()
            with pytest.raises(asyncpg.PostgresError, match='could not connect to server "south"'):
                await reports.fetch("SELECT * FROM monthly_impact")
            await cluster.fails_over(killed)
            await asyncio.to_thread(south_rows.start)
            await north.kill(north.flushers[0])
            await south.kill(south.collectors[0])
            await south.collectors[1].ready()
            await asyncio.gather(north.sends(60), south.sends(60))
            assert north.statuses() | south.statuses() <= {*FINE, 503}
        # Of each site as many as it has rows, and as many as its system's own report says.
        counted = await reports.fetch("SELECT site, sessions FROM monthly_impact ORDER BY site")
        rows = await reports.fetch(
            "SELECT site, count(*) FROM sessions GROUP BY site ORDER BY site"
        )
        assert [tuple(row) for row in counted] == [tuple(row) for row in rows]
        assert {row["site"] for row in rows} == {*NORTH, *SOUTH}
        assert sum(row["sessions"] for row in counted) >= sessions(north) + sessions(south)
        await reports.close()
        for server in postgres:
            await run_successfully("flusher", "check", DATABASE_URL=server.dsn())


def sessions(rig: Rig) -> int:
    """How many were answered with 201."""
    sent = rig.sender.sent_log.sessions
    return sum(session.start.outcome is Outcome.ACCEPTED for session in sent)


@asynccontextmanager
async def both(
    folder: Path, north: PostgresServer, south: PostgresServer
) -> AsyncIterator[tuple[Rig, Rig, Cluster]]:
    """The northern system on a cluster, the southern on one Redis; both under load."""
    with ValkeyServer(folder / "valkey", config={"appendfsync": "always"}) as valkey:
        async with (
            on_cluster(folder / "n", north.dsn(), DURABLE, sites=NORTH) as (one, cluster),
            under_load(folder / "s", valkey.url, south.dsn(), collectors=2, sites=SOUTH) as other,
        ):
            yield one, other, cluster
