"""Where a collector's time goes at its full load, in its own Python, seen from outside."""

from collections import Counter
from contextlib import AsyncExitStack
from typing import Final

from bench.speed.benchmark import Result, Run, Unsound
from bench.speed.contender import OTHER_CORE, SERVER_CORE, put_load
from bench.speed.machine import on_core
from bench.speed.profiler import (
    NOT_ALLOWED,
    series_of,
    shares_of_stacks,
    start_profiler,
    stop_profiler,
)
from embedded.system import System
from embedded.valkey import ValkeyServer

# The first that fits: the steps before what calls them.
_PLACES: Final = (
    ("TrustedProxies.client", "the client's address (client_address.py)"),
    ("CrawlerFilter.admit", "crawler or person: verdicts that are known (crawlers/)"),
    ("parse_body", "the body (body.py)"),
    ("Examination.examine", "what else is examined: site, token, peer (examination.py)"),
    ("_visitor_hash", "the hash (contract/identity.py)"),
    ("Appender.append", "the way into the buffer (append.py)"),
    ("Sessions.start", "salt and record (sessions.py)"),
    ("NodeWriter._settle", "the answer, sent when Redis has acknowledged (answering.py)"),
    ("UsualRequests.recognise", "the request's headers (usual.py)"),
    ("Answering.begin", "the way to the steps (answering.py)"),
    ("UnusualConnection.data_received", "aiohttp's parser"),
    ("NodeWriter._write_batches", "the write to Redis (node_writer.py)"),
    ("_Link.data_received", "Redis's replies (redis_connection.py)"),
    ("Connection.data_received", "the connection (connection.py)"),
    ("Runner.run", "the event loop and what it asks of the kernel (uvloop)"),
)


async def measure(run: Run) -> Result:
    """Rounds of a turn at full load, watched.

    Raises:
        Unsound: something was not answered.
    """
    shares: list[Counter[str]] = []
    valkey = ValkeyServer(run.folder / "valkey")
    with on_core(OTHER_CORE):
        valkey.start()
    async with AsyncExitStack() as stack:
        stack.callback(valkey.stop)
        # It never speaks to PostgreSQL.
        system = System(valkey.url, "postgresql://", run.folder / "logs", {"LOG_LEVEL": "warning"})
        stack.enter_context(system)
        with on_core(SERVER_CORE):
            collector = system.program("collector").start()
        await collector.ready()
        pid = collector.running.pid
        await put_load(system.port, pid, run.seconds)  # each User-Agent is examined once
        for number in range(1, run.rounds + 1):
            run.say(f"round {number} of {run.rounds}")
            stacks = run.folder / f"stacks-{number}.txt"
            profiler = await start_profiler(pid, stacks)
            turn = await put_load(system.port, pid, run.seconds)
            if turn.stored != turn.answered:
                raise Unsound(f"{turn.answered} answers, {turn.stored} were 201")
            if profiler is not None:
                await stop_profiler(profiler)
                shares.append(shares_of_stacks(stacks.read_text(), _PLACES))
    return Result(
        "collector_profile",
        "Where a collector's time goes",
        tuple(series_of(shares, "% of the samples in which it is at work")),
        (),
        ("As `python -m bench collector` loads it.", *([] if shares else [NOT_ALLOWED])),
    )
