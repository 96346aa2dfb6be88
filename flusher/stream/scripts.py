"""What changes a shard in one step: the scripts, as commands. Pure.

Each names its shard's stream first, and what else of the shard it changes.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from importlib.resources import files
from typing import Final

from contract import keys
from contract.entry import count_records, split_entry
from contract.errors import DeadLetter
from contract.record import FIELD
from flusher.rows.entry import Entry
from runtime.redis_connection import Command

_FOLDER: Final = files("flusher.stream")
_DEAD_LETTER: Final = _FOLDER.joinpath("dead_letter_entry.lua").read_text()
_ACKNOWLEDGE: Final = _FOLDER.joinpath("acknowledge_entries.lua").read_text()
_SPLIT: Final = _FOLDER.joinpath("split_entry.lua").read_text()
_RETIRE: Final = _FOLDER.joinpath("retire_consumer.lua").read_text()
_TAKE_UP: Final = _FOLDER.joinpath("take_up_forgotten.lua").read_text()

# Entries that one call ends.
_ENDED_AT_ONCE: Final = 4000
# How many entries one call examines, to find those that no consumer has.
_LOOKED_AT: Final = 1000


def acknowledge_entries(entries: Iterable[Entry]) -> dict[int, list[Command]]:
    """Acknowledges and deletes entries, by shard. A reply is how many records it ended."""
    # By how many records they hold: a call names that once.
    ids: defaultdict[tuple[int, int], list[bytes]] = defaultdict(list)
    for shard, id_, record in entries:
        ids[shard, count_records(record)].append(id_)
    commands: defaultdict[int, list[Command]] = defaultdict(list)
    for (shard, records), of_size in ids.items():
        for first in range(0, len(of_size), _ENDED_AT_ONCE):
            some = of_size[first : first + _ENDED_AT_ONCE]
            command = _evaluate(
                _ACKNOWLEDGE, shard, [keys.joined(shard)], keys.GROUP, records, *some
            )
            commands[shard].append(command)
    return commands


def dead_letter_entry(entry: Entry, why: DeadLetter, most: int) -> Command:
    """Moves an entry to its shard's dead letters, of which so many are kept.

    Its reply: whether it was there, and how many of the oldest had to make room.
    """
    letters = [keys.dead_letters(entry.shard)]
    arguments = (keys.GROUP, entry.id, FIELD, why.reason, str(why), most)
    return _evaluate(_DEAD_LETTER, entry.shard, letters, *arguments)


def split_entry_command(entry: Entry) -> Command:
    """Replaces an entry by one for each of its records, at the stream's end."""
    arguments: Command = (keys.GROUP, entry.id, FIELD, *split_entry(entry.record))
    return _evaluate(_SPLIT, entry.shard, [keys.joined(entry.shard)], *arguments)


def take_up_forgotten(shard: int, consumer: str, claim_ms: int) -> Command:
    """Makes entries claimable that count as read but that no consumer has; returns how many."""
    return _evaluate(_TAKE_UP, shard, [], keys.GROUP, consumer, _LOOKED_AT, claim_ms)


def retire_consumer(shard: int, consumer: str, gone_ms: int) -> Command:
    """Takes a consumer, and those that have done nothing for so long, off the group."""
    return _evaluate(_RETIRE, shard, [], keys.GROUP, consumer, gone_ms)


def _evaluate(
    script: str, shard: int, more_keys: Sequence[str], *arguments: str | bytes | int
) -> Command:
    names = (keys.stream(shard), *more_keys)
    return ("EVAL", script, len(names), *names, *arguments)
