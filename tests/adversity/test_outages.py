"""Connections that stall, reset and truncate; servers that are slow, full, away or forgetful.

Each test ends by reconciling every answer with the rows, and the metrics with each other (`rig`).
"""

import asyncio
import json
import time
from pathlib import Path
from typing import Any

import aiohttp
import asyncpg
import psutil  # type: ignore[import-untyped]  # it ships no types
import pytest

from bench.chaos.balance import total
from contract import keys
from contract.settings import STREAM_SHARDS
from tests.acceptance.conftest import FIREFOX, SESSIONS
from tests.adversity.breakable_proxy import Fault
from tests.adversity.rig import FINE, running, seconds_pass
from tests.system import Program, eventually, find_free_port, run_command, until

# What a request waits for Redis, at the most, and more for a busy machine.
WAIT_SECONDS = 5.0
SLACK_SECONDS = 20.0


@pytest.mark.long
@pytest.mark.parametrize("proxy", ["collector-redis", "flusher-redis", "flusher-postgres"])
async def test_a_connection_that_stalls_is_reset_and_truncates(tmp_path: Path, proxy: str) -> None:
    """Also in the middle of a COPY, and of a commit or an acknowledgement whose answer is lost."""
    async with running(tmp_path, proxied=proxy) as rig:
        for fault in (*Fault, *Fault):
            rig.proxy.cut(fault)
            if proxy == "collector-redis":
                await seconds_pass(1)  # requests wait
            else:
                await rig.sends(80)  # front-ends notice nothing of it
            rig.proxy.mend()
            await rig.sends(20)
        assert rig.statuses() <= FINE, "a short outage is waited for"


async def test_a_database_that_is_slow_or_away_only_delays(tmp_path: Path) -> None:
    """Meanwhile the streams grow, and memory does not. `status` says how far behind the flushers
    are, and a flusher that has to stop says what it leaves.
    """
    async with running(tmp_path, settings={"FLUSH_MAX_ROWS": "50"}) as rig:
        connection = await asyncpg.connect(rig.postgres.dsn())
        async with connection.transaction():
            await connection.execute("LOCK TABLE sessions")
            await rig.sends(80)
            assert await rig.buffered() > 40, "nothing leaves the streams uncommitted"
        await connection.close()

        programs = [*rig.collectors, *rig.flushers]
        rig.postgres.kill()
        await rig.sends(100)
        before = [_resident_mib(program) for program in programs]
        await rig.sends(400)
        assert await rig.buffered() > 400, "nothing is trimmed"
        grown = [_resident_mib(p) - mib for p, mib in zip(programs, before, strict=True)]
        assert max(grown) < 8, f"{grown} MiB more"

        async def behind() -> float:
            metrics = await rig.flushers[0].metrics()
            return max(v for k, v in metrics.items() if k.startswith("impact_oldest_entry_seconds"))

        await eventually(behind, lambda seconds: seconds > 3)
        _, output, _ = await run_command("flusher", "status", "--json", **rig.system.environment)
        status = json.loads(output)
        assert sum(shard["records"] for shard in status["shards"]) > 400
        assert max(shard["oldest_seconds"] or 0 for shard in status["shards"]) > 3
        assert status["buffer"]["used_bytes"] > 0
        flusher = rig.flushers[1]
        await until(lambda: "a batch has to wait" in flusher.log)
        assert await rig.stop(flusher) == 1
        assert "another flusher takes them over" in flusher.log
        await asyncio.to_thread(rig.postgres.start)
        await flusher.start().ready()
        await rig.sends(20)
        assert rig.statuses() <= FINE


async def test_a_redis_that_loses_its_consumer_groups_is_full_or_away(tmp_path: Path) -> None:
    """503 in time, and what is sent again counts once."""
    async with running(tmp_path) as rig:
        for _ in range(3):
            for shard in range(STREAM_SHARDS.read({})):
                await rig.redis.xgroup_destroy(keys.stream(shard), keys.GROUP)
            await rig.sends(30)
        assert rig.statuses() <= FINE

        info: Any = await rig.redis.info("memory")
        await rig.redis.config_set("maxmemory", info["used_memory"] // 2)
        await _is_unavailable(rig.system.url)
        (collector,) = rig.collectors
        metrics = await collector.metrics()
        assert metrics['impact_failed_total{reason="redis_full"}'] > 0
        await rig.redis.config_set("maxmemory", 0)
        await rig.sends(20)

        rig.valkey.kill()
        session = "0198f000-0000-7000-8000-00000000abcd"
        began = time.monotonic()
        await _is_unavailable(rig.system.url, session)
        assert WAIT_SECONDS - 1 < time.monotonic() - began < WAIT_SECONDS + SLACK_SECONDS
        await asyncio.to_thread(rig.valkey.start)
        for _ in range(2):
            assert (await _post(rig.system.url, session))[0] == 201
        await rig.sends(20)
        assert rig.statuses() <= {*FINE, 503}
        database = await asyncpg.connect(rig.postgres.dsn())
        query = "SELECT count(*) FROM sessions WHERE id = $1::text::uuid"
        await eventually(lambda: database.fetchval(query, session), lambda rows: rows == 1)
        await database.close()


async def test_a_drain_answers_and_stores_what_was_accepted(tmp_path: Path) -> None:
    """Under load, beside another of its kind, as in a rolling restart."""
    async with running(tmp_path, collectors=2) as rig:
        for program in (*rig.collectors, *rig.flushers):
            assert await rig.stop(program) == 0, program.log
            await rig.sends(20)
            await program.start().ready()
        assert rig.statuses() <= FINE
        assert rig.sender.tally.no_answer == 0


@pytest.mark.long
async def test_a_second_signal_ends_a_drain(tmp_path: Path) -> None:
    # Of two collectors one may have all connections, and the other nothing to drain.
    async with running(tmp_path) as rig:
        (program,) = rig.collectors
        await rig.ledger.look(program)
        rig.valkey.freeze()  # what the collector has can't be stored: its drain takes long
        await seconds_pass(0.5)
        program.running.terminate()
        await until(lambda: "stopping" in program.log)
        program.running.terminate()
        assert await rig.ended(program) == 1
        rig.valkey.thaw()
        await program.start().ready()


@pytest.mark.parametrize("durability", ["fsync", pytest.param("replica", marks=pytest.mark.long)])
async def test_what_is_not_durable_enough_is_not_answered_2xx(
    tmp_path: Path, durability: str
) -> None:
    """APPEND_DURABILITY: here neither a disk nor a replica ever acknowledges."""
    config = {"appendonly": "no"} if durability == "fsync" else {}
    async with running(tmp_path, valkey_config=config) as rig:
        port = find_free_port()
        strict = rig.system.program("collector", APPEND_DURABILITY=durability, PORT=str(port))
        strict.start()
        await eventually(strict.readyz, lambda page: [*page[1].get("failed", ())] == ["write"])
        await _is_unavailable(f"http://127.0.0.1:{port}")
        assert total(await strict.metrics(), "failed") == 1
        # The record is in the stream all the same: more than was answered, never less.


async def _post(url: str, session: str | None = None) -> tuple[int, Any, Any]:
    """The status, headers and document of the answer to a start."""
    options: dict[str, Any] = {} if session is None else {"json": {"id": session}}
    headers = {"User-Agent": FIREFOX, "X-Forwarded-For": "192.0.2.200"}
    async with (
        aiohttp.ClientSession() as http,
        http.post(url + SESSIONS, headers=headers, **options) as answer,
    ):
        return answer.status, answer.headers, await answer.json()


async def _is_unavailable(url: str, session: str | None = None) -> None:
    status, headers, document = await _post(url, session)
    assert (status, headers["Retry-After"]) == (503, "5")
    assert document["errors"][0]["status"] == "503"


def _resident_mib(program: Program) -> float:
    return float(psutil.Process(program.running.pid).memory_info().rss / 2**20)
