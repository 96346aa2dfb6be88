"""A system that writes down whatever passes, as files under one folder, and the search in these."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import aiohttp
import asyncpg
import psutil  # type: ignore[import-untyped]  # it ships no types
from prometheus_client import CollectorRegistry, Counter
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import ConstantBackoff
from redis.exceptions import ResponseError

from contract import keys
from contract.settings import admin_port
from embedded.postgres import PostgresServer
from embedded.valkey import ValkeyServer
from flusher.stream.dead_letters import DeadLetters, as_text
from runtime.admin import serve_admin
from runtime.shards import connect_shards
from tests.servers import POSTGRES_SETTINGS
from tests.system import PythonSystem, eventually, find_free_port, run_python

STREAM: Final = keys.stream(0)
DEAD_LETTERS: Final = keys.dead_letters(0)
_AROUND: Final = 80

# Everything, and uncompressed.
_REDIS: Final = {
    "appendonly": "yes",
    "auto-aof-rewrite-percentage": "0",
    "save": "3600 1",
    "rdbcompression": "no",
    "slowlog-log-slower-than": "0",
    "slowlog-max-len": "100000",
    "loglevel": "debug",
    "enable-debug-command": "yes",
}
_POSTGRES: Final = POSTGRES_SETTINGS | {
    "log_statement": "all",
    "log_min_duration_statement": "0",
    "log_min_messages": "debug2",
    "log_error_verbosity": "verbose",
    "log_connections": "on",
    "log_parameter_max_length_on_error": "-1",
}

# What is searched, as patterns of files. All other files under the folder are searched, too: what
# commands print, command lines, environments, and whatever else a server makes.
PLACES: Final = {
    "append-only file": "redis/appendonlydir/*",
    "RDB file": "redis/*.rdb",
    "log of Redis": "redis/server.log",
    "MONITOR": "monitor/*",
    "slow log": "slow-log/*",
    "dead letters": "dead-letters/*",
    "tables": "postgres/cluster/base/**/*",
    "WAL": "postgres/cluster/pg_wal/*",
    "log of PostgreSQL": "postgres/server.log",
    "our logs": "logs/*",
    "admin pages": "pages/*",
}


@dataclass
class Stage:
    """The servers, the processes, and the folder of everything that is written."""

    folder: Path
    redis: ValkeyServer
    postgres: PostgresServer
    system: PythonSystem

    @cached_property
    def client(self) -> Redis:
        """Tries again while Redis restarts."""
        return Redis.from_url(self.redis.url, retry=Retry(ConstantBackoff(0.05), 100))

    async def sql(self, statement: str, *values: object) -> Any:
        """Runs a statement; its first value."""
        connection = await asyncpg.connect(self.postgres.dsn())
        try:
            return await connection.fetchval(statement, *values)
        finally:
            await connection.close()

    async def save(self) -> None:
        """Redis writes its RDB file, now."""

        async def saved() -> bool:
            with suppress(ResponseError):  # one is being written in the background
                return bool(await self.client.save())
            return False

        await eventually(saved)

    async def write_files(self) -> None:
        """Redis writes its RDB file, and PostgreSQL its tables' files, now."""
        await self.save()
        await self.sql("CHECKPOINT")

    def find(
        self, wanted: Iterable[bytes], within: str = "**/*", but: Iterable[str] = ()
    ) -> dict[str, str]:
        """The files of a pattern that hold any of `wanted`, each with the bytes around it. Folders
        named in `but` are left out.
        """
        wanted, found = list(wanted), {}
        for path in self.folder.glob(within):
            name = path.relative_to(self.folder)
            if path.is_dir() or name.parts[0] in but:
                continue
            with suppress(FileNotFoundError):  # files come and go while servers run
                data = path.read_bytes()
                for form in wanted:
                    if (at := data.find(form)) >= 0:
                        found[str(name)] = repr(data[max(at - _AROUND, 0) : at + 2 * _AROUND])
        return found

    def keep(self, name: str, said: bytes) -> None:
        """Makes a file of what was said."""
        (self.folder / name).parent.mkdir(exist_ok=True)
        (self.folder / name).write_bytes(said)

    async def keep_pages(self, moment: str) -> None:
        """What the processes say about themselves now."""
        for number, program in enumerate(self.system.programs):
            said = await _fetch_pages(program.admin_url)
            self.keep(f"pages/{program.module} {number} {moment}", said)

    async def keep_slow_log(self, moment: str) -> None:
        slow = [bytes(entry["command"]) for entry in await self.client.slowlog_get(100_000)]
        self.keep(f"slow-log/{moment}", b"\n".join(slow))

    async def run(self, *command: str) -> None:
        """Runs a command for operators. What it prints is kept."""
        code, *printed = await run_python(*command, **self.system.environment)
        assert code == 0, printed
        self.keep(f"commands/{' '.join(command)}", repr(printed).encode())

    async def keep_dead_letters(self, moment: str) -> None:
        """All of them, as `dead show` does."""
        async with connect_shards(self.system.environment) as shards:
            shown = [as_text(letter) async for letter in DeadLetters(shards).all()]
        self.keep(f"dead-letters/{moment}", "\n".join(shown).encode())

    def keep_processes(self) -> None:
        """What `ps` and `/proc` show of them."""
        for program in self.system.programs:
            process = psutil.Process(program.running.pid)
            self.keep(f"cmdline/{process.pid}", "\0".join(process.cmdline()).encode())
            self.keep(f"environ/{process.pid}", repr(process.environ()).encode())

    async def plant(self, value: bytes) -> None:
        """Puts a value in every place, in the way in which things come there."""
        text = value.decode("latin-1")
        await self.client.set("planted", value)
        await self.client.xadd(DEAD_LETTERS, {"e": value})
        await self.client.execute_command("DEBUG", "LOG", value)  # type: ignore[no-untyped-call]  # redis-py's
        await self.sql("CREATE TABLE planted (planted bytea)")
        for _ in range(3):  # one could lie across two pages of a file
            await self.sql("INSERT INTO planted VALUES ($1)", value)
        registry, port = CollectorRegistry(), find_free_port()
        Counter("planted", "A label that quotes.", ("by",), registry=registry).labels(text).inc()
        async with serve_admin({}, admin_port(port), registry, lambda: {"planted": text}):
            self.keep("pages/planted", await _fetch_pages(f"http://127.0.0.1:{port}"))
        for log_format in ("text", "json"):  # each logs its settings
            settings = {"JWT_USER_CLAIM": text, "LOG_FORMAT": log_format}
            await self.system.program("collector", **settings).start().ready()
        await self.write_files()
        await self.keep_slow_log("planted")
        await self.keep_dead_letters("planted")

    @asynccontextmanager
    async def watched(self) -> AsyncIterator[None]:
        """Until the end of the block every command that Redis gets is written down."""

        async def watch() -> None:
            with (self.folder / "monitor" / "commands").open("ab", 0) as file:
                while True:
                    with suppress(OSError):
                        reader, writer = await asyncio.open_connection("127.0.0.1", self.redis.port)
                        try:
                            writer.write(b"MONITOR\r\n")
                            while data := await reader.read(65536):
                                file.write(data)
                        finally:
                            writer.close()
                    await asyncio.sleep(0.05)  # it is away: until the next try

        watching = asyncio.create_task(watch())
        try:
            yield
        finally:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)
            await self.client.aclose()


async def _fetch_pages(url: str) -> bytes:
    said = b""
    async with aiohttp.ClientSession() as http:
        for page in ("livez", "readyz", "metrics"):
            async with http.get(f"{url}/{page}") as answer:
                said += repr(answer.headers).encode() + await answer.read()
    return said


@contextmanager
def set_up(folder: Path, key: str) -> Iterator[Stage]:
    """Servers of its own, and a system with nothing started; `key` is that of the tokens."""
    settings = {"JWT_KEY": key, "SITES": "*.example.org"}
    settings |= {"STREAM_SHARDS": "1", "FLUSH_CLAIM_SECONDS": "1"}
    (folder / "monitor").mkdir()
    with (
        ValkeyServer(folder / "redis", config=_REDIS) as redis,
        PostgresServer(folder / "postgres", settings=_POSTGRES, sync=False) as postgres,
        PythonSystem(redis.url, postgres.dsn(), folder / "logs", settings) as system,
    ):
        yield Stage(folder, redis, postgres, system)
