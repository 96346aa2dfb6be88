"""Wires that stall, reset and truncate, servers that are slow, full or forgetful, under load.

Each ends by reconciling every answer with the rows, and the metrics with each other (`rig`).
"""

import asyncio
import json
import time
from functools import partial
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
from tests.adversity.rig import Rig, running
from tests.system import Program, eventually, find_free_port, run_command

FINE = {201, 202, 204}
# What a request waits for Redis, at the most, and then some for a busy machine.
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
                await _seconds_pass(1)  # requests wait
            else:
                await rig.sends(80)  # front-ends notice nothing of it
            rig.proxy.mend()
            await rig.sends(20)
        assert rig.statuses() <= FINE, "a short outage is waited for"


async def test_a_slow_database_only_delays(tmp_path: Path) -> None:
    async with running(tmp_path) as rig:
        connection = await asyncpg.connect(rig.postgres.dsn())
        async with connection.transaction():
            await connection.execute("LOCK TABLE sessions")
            await rig.sends(200)
            assert await rig.buffered() > 100, "nothing leaves the streams uncommitted"
        await connection.close()
        assert rig.statuses() <= FINE


async def test_a_full_redis_answers_503_and_stores_nothing_of_it(tmp_path: Path) -> None:
    async with running(tmp_path) as rig:
        info: Any = await rig.redis.info("memory")
        await rig.redis.config_set("maxmemory", info["used_memory"] // 2)
        status, headers, _ = await _post(rig)
        assert (status, headers["Retry-After"]) == (503, "5")
        (collector,) = rig.collectors
        metrics = await collector.metrics()
        assert metrics['impact_failed_total{reason="redis_full"}'] > 0
        await rig.redis.config_set("maxmemory", 0)
        await rig.sends(20)
        assert rig.statuses() <= {*FINE, 503}


async def test_a_consumer_group_that_has_vanished(tmp_path: Path) -> None:
    async with running(tmp_path) as rig:
        for _ in range(3):
            for shard in range(STREAM_SHARDS.read({})):
                await rig.redis.xgroup_destroy(keys.stream(shard), keys.GROUP)
            await rig.sends(30)
        assert rig.statuses() <= FINE


async def test_a_long_outage_of_redis_is_a_503_in_time_and_counts_once_when_sent_again(
    tmp_path: Path,
) -> None:
    async with running(tmp_path) as rig:
        rig.valkey.kill()
        session = "0198f000-0000-7000-8000-00000000abcd"
        began = time.monotonic()
        status, headers, body = await _post(rig, session)
        took = time.monotonic() - began
        assert (status, headers["Retry-After"]) == (503, "5")
        assert json.loads(body)["errors"][0]["status"] == "503"
        assert WAIT_SECONDS - 1 < took < WAIT_SECONDS + SLACK_SECONDS
        await asyncio.to_thread(rig.valkey.start)
        for _ in range(2):
            assert (await _post(rig, session))[0] == 201
        await rig.sends(20)
        await eventually(lambda: _rows_of(rig, session), lambda rows: rows == 1)


async def test_while_postgres_is_away_streams_grow_memory_does_not_and_status_says_so(
    tmp_path: Path,
) -> None:
    async with running(tmp_path, settings={"FLUSH_MAX_ROWS": "50"}) as rig:
        programs = [*rig.collectors, *rig.flushers]
        rig.postgres.kill()
        await rig.sends(100)
        before = [_resident_mib(program) for program in programs]
        await rig.sends(600)
        assert await rig.buffered() > 600, "nothing is trimmed"
        grown = [_resident_mib(p) - mib for p, mib in zip(programs, before, strict=True)]
        assert max(grown) < 8, f"{grown} MiB more"

        async def behind() -> float:
            metrics = await rig.flushers[0].metrics()
            return max(v for k, v in metrics.items() if k.startswith("impact_oldest_entry_seconds"))

        await eventually(behind, lambda seconds: seconds > 3)
        await asyncio.to_thread(rig.postgres.start)
        await rig.sends(20)
        assert rig.statuses() <= FINE


@pytest.mark.long
async def test_status_says_how_far_behind_it_is(tmp_path: Path) -> None:
    async with running(tmp_path) as rig:
        for flusher in rig.flushers:
            flusher.freeze()
        await rig.sends(60)
        code, output, errors = await run_command(
            "flusher", "status", "--json", **rig.system.environment
        )
        assert code == 0, errors
        status = json.loads(output)
        assert sum(shard["entries"] for shard in status["shards"]) > 30
        assert max(shard["oldest_seconds"] or 0 for shard in status["shards"]) > 0
        assert status["buffer"]["used_bytes"] > 0
        for flusher in rig.flushers:
            flusher.thaw()


@pytest.mark.parametrize("module", ["collector", "flusher"])
async def test_a_drain_answers_and_stores_what_was_accepted(tmp_path: Path, module: str) -> None:
    """Under load, beside another of its kind, as in a rolling restart."""
    async with running(tmp_path, collectors=2) as rig:
        programs = rig.collectors if module == "collector" else rig.flushers
        for program in programs:
            counted = await program.metrics()
            assert total(counted, "requests" if module == "collector" else "written") >= 0
            assert await rig.stop(program) == 0, program.log
            await rig.sends(20)
            await program.start().ready()
        assert rig.statuses() <= FINE
        assert rig.sender.tally.no_answer == 0


@pytest.mark.long
async def test_a_drain_that_can_not_be_clean_says_so(tmp_path: Path) -> None:
    async with running(tmp_path) as rig:
        rig.postgres.kill()
        await rig.sends(60)
        flusher, other = rig.flushers
        await eventually(lambda: _log_has(flusher, "a batch has to wait"))
        assert await rig.stop(flusher) == 1
        assert "another flusher takes them over" in flusher.log
        await asyncio.to_thread(rig.postgres.start)
        await flusher.start().ready()
        await other.ready()


@pytest.mark.long
async def test_a_second_signal_forces(tmp_path: Path) -> None:
    # Of two collectors one may have all connections, and the other nothing to drain.
    async with running(tmp_path) as rig:
        (program,) = rig.collectors
        await rig.look(program)
        rig.valkey.freeze()  # what it has can't be stored: a drain takes its time
        await _seconds_pass(0.5)
        program.running.terminate()
        await eventually(lambda: _log_has(program, "stopping"))
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

        async def failed_checks() -> set[str]:
            async with (
                aiohttp.ClientSession() as http,
                http.get(f"{strict.admin_url}/readyz") as answer,
            ):
                return set((await answer.json())["failed"])

        await eventually(partial(_log_of, strict), lambda log: "listening" in log)
        await eventually(failed_checks, lambda checks: checks == {"write"})
        async with (
            aiohttp.ClientSession() as http,
            http.post(
                f"http://127.0.0.1:{port}{SESSIONS}", headers={"User-Agent": FIREFOX}
            ) as answer,
        ):
            assert answer.status == 503
        assert total(await strict.metrics(), "failed") == 1
        # It is in the stream all the same: not what was promised, and more than what was answered.


async def _log_of(program: Program) -> str:
    return program.log


async def _post(rig: Rig, session: str | None = None) -> tuple[int, Any, str]:
    options: dict[str, Any] = {} if session is None else {"json": {"id": session}}
    async with (
        aiohttp.ClientSession() as http,
        http.post(
            rig.system.url + SESSIONS,
            headers={"User-Agent": FIREFOX, "X-Forwarded-For": "192.0.2.200"},
            **options,
        ) as answer,
    ):
        return answer.status, answer.headers, await answer.text()


async def _rows_of(rig: Rig, session: str) -> int:
    connection = await asyncpg.connect(rig.postgres.dsn())
    try:
        query = "SELECT count(*) FROM sessions WHERE id = $1::text::uuid"
        return int(await connection.fetchval(query, session))
    finally:
        await connection.close()


async def _log_has(program: Program, text: str) -> bool:
    return text in program.log


async def _seconds_pass(seconds: float) -> None:
    """For faults that take their time, during which nothing is to be seen."""
    began = time.monotonic()

    async def passed() -> bool:
        return time.monotonic() - began > seconds

    await eventually(passed)


def _resident_mib(program: Program) -> float:
    return float(psutil.Process(program.running.pid).memory_info().rss / 2**20)
