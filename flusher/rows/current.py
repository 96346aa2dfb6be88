"""Which session each upgrade of a visitor is for, where some of them say `current`. Pure.

The upgrades are worked off in the order in which they were requested. One that names a session
takes that, if it is still anonymous. One of `current` takes the newest session that is, and only if
that began after each that the same user has taken of this visitor before: so a user takes at most
one session for each launch, and a second request takes no one else's. `current` may have been
handled a moment before the start that it follows.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from asyncpg.pgproto.pgproto import UUID

# A start and the upgrade that a page sends after it may be handled by two collectors, whose clocks
# differ, or on two connections, of which the second is faster.
OVERTAKING: Final = timedelta(seconds=10)

# When a session began, and its id: the order in which they are newer.
Launch = tuple[datetime, UUID]


@dataclass(frozen=True, slots=True)
class Wish:
    """An upgrade. `session_id` is None for `current`."""

    id: UUID
    upgraded_at: datetime
    user_hash: UUID
    session_id: UUID | None


def decide(
    wishes: Iterable[Wish], launches: Iterable[Launch], taken: Mapping[UUID, Launch]
) -> tuple[dict[UUID, Wish], set[UUID]]:
    """Who takes which session.

    Args:
        wishes: the visitor's upgrades to be decided.
        launches: sessions that are anonymous before the first of them.
        taken: by user, the newest session that was taken before.

    Returns:
        By session, the upgrade that takes it; and the upgrades of `current` that repeat one.
    """
    waiting = sorted(launches, reverse=True)
    launch_of = {id_: (began, id_) for began, id_ in waiting}
    newest_taken = dict(taken)
    anonymous: list[Launch] = []  # that have begun, the newest last
    takers: dict[UUID, Wish] = {}
    repeats = set()
    for wish in sorted(wishes, key=lambda wish: (wish.upgraded_at, wish.id)):
        before = newest_taken.get(wish.user_hash)
        if wish.session_id is not None:
            launch = launch_of.get(wish.session_id)
        else:
            while waiting and waiting[-1][0] <= wish.upgraded_at + OVERTAKING:
                anonymous.append(waiting.pop())
            while anonymous and anonymous[-1][1] in takers:
                anonymous.pop()
            launch = anonymous[-1] if anonymous else None
            if before is not None and (launch is None or launch < before):
                repeats.add(wish.id)
                continue
        if launch is None or launch[1] in takers:
            continue
        takers[launch[1]] = wish
        newest_taken[wish.user_hash] = launch if before is None else max(launch, before)
    return takers, repeats
