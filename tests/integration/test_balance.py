"""bench/chaos/balance.py: how many records a killed flusher may have ended, at most."""

from pathlib import Path

from redis.asyncio import Redis

from bench.chaos.balance import Balance
from bench.load.sender import Tally
from contract import keys
from contract.entry import join_records
from contract.record import FIELD
from tests.system import Program

CONNECTIONS = 4
RECORD = b"\x01"


async def test_where_records_share_entries_each_that_left_counts_once(
    redis: Redis, tmp_path: Path
) -> None:
    tally = Tally()
    balance = Balance(tally, redis, CONNECTIONS)

    async def append(entries: int) -> None:
        """Entries of two records, each record from a request of its own."""
        for _ in range(entries):
            await redis.xadd(keys.stream(0), {FIELD: join_records([RECORD, RECORD])})
            await redis.incr(keys.joined(0))
        tally.sent += 2 * entries

    async def remove(entries: int) -> None:
        left = await redis.xtrim(keys.stream(0), maxlen=100 - entries, approximate=False)
        await redis.decrby(keys.joined(0), left)

    await append(100)
    flusher = Program("flusher", {}, tmp_path / "flusher.log")
    await balance.gone(flusher)  # another one follows, which has ended nothing yet
    await remove(30)
    await append(5)
    await balance.gone(flusher)
    balanced = await balance.balance([])
    assert balanced.buffered == 2 * (100 - 30 + 5)
    assert 2 * 30 <= balanced.ended_unseen <= 2 * 30 + 2 * CONNECTIONS
