"""The status as text: red needs an operator, yellow may soon need one.

There is no colour if the output is not a terminal, or if `NO_COLOR` is set.
"""

from datetime import datetime, timedelta
from typing import Final

from rich.console import Console
from rich.live import Live
from rich.text import Text

from flusher.postgres.database import Database
from flusher.status import BufferStatus, Status, read_status
from runtime.periodic import repeat
from runtime.shards import Shards
from runtime.stopping import Stopping

_OLD_SECONDS: Final = (60.0, 300.0)
_FULL_RATIO: Final = (0.8, 0.95)
_SOON_SECONDS: Final = 3600.0
_UNKNOWN: Final = "unknown"
_BAD: Final = "bold red"
_WARNING: Final = "yellow"
_GOOD: Final = "green"


def as_text(status: Status) -> Text:
    """A table of the shards, and a line for each other value."""
    text = Text()
    text.append(
        f"{'shard':>5} {'records':>9} {'entries':>9} {'pending':>9} {'oldest':>9} {'dead':>6} "
        "last write\n",
        "bold",
    )
    for shard in status.shards or []:
        oldest = "-" if shard.oldest_seconds is None else f"{shard.oldest_seconds:.1f} s"
        text.append(f"{shard.shard:>5} {shard.records:>9} {shard.entries:>9} {shard.pending:>9} ")
        text.append(f"{oldest:>9} ", _level(shard.oldest_seconds or 0, _OLD_SECONDS))
        text.append(f"{shard.dead_letters:>6} ", _BAD if shard.dead_letters else "")
        text.append(f"{_moment(shard.last_write) or '-'}\n")
    if status.shards_away:
        away = ", ".join(map(str, status.shards_away))
        text.append(f"no answer from the servers of the shards {away}\n", _BAD)
    text.append("\n")
    for name, value, style in _lines(status):
        text.append(f"{name + ':':<30}").append(f"{value}\n", style)
    for why in status.away.values():
        text.append(f"{why}\n", _BAD)
    text.right_crop(1)
    return text


def print_status(status: Status) -> None:
    _console().print(as_text(status))


async def watch_status(servers: Shards, database: Database) -> None:
    """Shows the status about every second, until Ctrl-C.

    If a server does not answer, its values are unknown until it does. If the output is not a
    terminal, each status is printed below the one before.
    """
    stopping = Stopping()
    stopping.install()
    console = _console()
    with Live(console=console, auto_refresh=False, transient=False) as live:
        pause = 0.0

        async def show() -> None:
            nonlocal pause
            status = await read_status(servers, database)
            # If Redis answers, the query itself takes a second.
            pause = 1.0 if status.buffer is None else 0.0
            if console.is_terminal:
                live.update(as_text(status), refresh=True)
            else:
                console.print(as_text(status), "")

        await repeat(show, stopping, lambda: pause)


def _console() -> Console:
    return Console(highlight=False, soft_wrap=True)


def _lines(status: Status) -> list[tuple[str, str, str]]:
    dead, waiting, buffer = status.dead_letters, status.upgrades_waiting, status.buffer
    no_session = _UNKNOWN if waiting is None else "none"
    no_append = "none: all is flushed" if buffer else _UNKNOWN
    return [
        ("newest session in PostgreSQL", _moment(status.last_session) or no_session, ""),
        ("newest entry still in Redis", _moment(status.last_append) or no_append, ""),
        ("dead letters", _number(dead), _BAD if dead else _WARNING if dead is None else _GOOD),
        ("upgrades waiting", _number(waiting), ""),
        ("Redis's memory", _buffer(buffer), _fullness(buffer)),
    ]


def _moment(moment: datetime | None) -> str | None:
    return None if moment is None else moment.astimezone().isoformat(timespec="seconds")


def _number(number: int | None) -> str:
    return _UNKNOWN if number is None else str(number)


def _buffer(buffer: BufferStatus | None) -> str:
    if buffer is None:
        return _UNKNOWN
    used = f"{buffer.used_bytes / 2**20:,.0f} of {buffer.most_bytes / 2**20:,.0f} MiB"
    if buffer.seconds_left is None:
        return f"{used}, not growing"
    return f"{used}, full in {timedelta(seconds=round(buffer.seconds_left))} at the present rate"


def _fullness(buffer: BufferStatus | None) -> str:
    if buffer is None:
        return _WARNING
    style = _level(buffer.used_bytes / max(buffer.most_bytes, 1), _FULL_RATIO)
    soon = buffer.seconds_left is not None and buffer.seconds_left < _SOON_SECONDS
    return _WARNING if soon and style == _GOOD else style


def _level(value: float, marks: tuple[float, float]) -> str:
    warning, bad = marks
    return _BAD if value >= bad else _WARNING if value >= warning else _GOOD
