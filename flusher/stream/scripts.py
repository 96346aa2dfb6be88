"""The Lua scripts, each of which changes a shard in one step, as commands. Pure."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from functools import cache
from importlib.resources import files
from typing import Final

from contract import keys
from contract.entry import count_records
from flusher.rows.entry import Entry
from runtime.redis_connection import Command

_ACKNOWLEDGED_AT_ONCE: Final = 4000


def run_script(
    file_name: str, shard: int, other_keys: Sequence[str], *arguments: str | bytes | int
) -> Command:
    """Runs a script on a shard's stream and other keys of the shard."""
    names = (keys.stream(shard), *other_keys)
    return ("EVAL", _script(file_name), len(names), *names, *arguments)


def acknowledge_entries(entries: Iterable[Entry]) -> dict[int, list[Command]]:
    """Acknowledges and deletes entries, by shard. Each reply is how many records were deleted."""
    # One call takes entries with the same number of records.
    ids: defaultdict[tuple[int, int], list[bytes]] = defaultdict(list)
    for shard, id_, record in entries:
        ids[shard, count_records(record)].append(id_)
    commands: defaultdict[int, list[Command]] = defaultdict(list)
    for (shard, records), of_size in ids.items():
        joined = [keys.joined(shard)]
        for first in range(0, len(of_size), _ACKNOWLEDGED_AT_ONCE):
            arguments: Command = (
                keys.GROUP,
                records,
                *of_size[first : first + _ACKNOWLEDGED_AT_ONCE],
            )
            command = run_script("acknowledge_entries.lua", shard, joined, *arguments)
            commands[shard].append(command)
    return commands


@cache
def _script(file_name: str) -> str:
    return files("flusher.stream").joinpath(file_name).read_text()
