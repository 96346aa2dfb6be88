"""Decides which session each upgrade of a visitor takes, if some of them are of `current`. Pure.

Upgrades are handled in the order of their requests. An upgrade by id takes its session if that is
still anonymous. An upgrade of `current` takes the newest anonymous session, but only if that began
after all sessions of this visitor that the same user has taken before. So a user takes at most one
session for each launch, and a repeated request never takes another user's session.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from asyncpg.pgproto.pgproto import UUID

# An upgrade of `current` may have an earlier time than the start that the page sent before it: two
# collectors' clocks may differ, or the second connection may be faster.
OVERTAKING: Final = timedelta(seconds=10)

# When a session began, and its id. The larger one is newer.
Launch = tuple[datetime, UUID]


@dataclass(frozen=True, slots=True)
class UpgradeRequest:
    """An upgrade that is to be decided. `session_id` is None for `current`."""

    id: UUID
    upgraded_at: datetime
    user_hash: UUID
    session_id: UUID | None


def decide(
    requests: Iterable[UpgradeRequest], launches: Iterable[Launch], taken: Mapping[UUID, Launch]
) -> tuple[dict[UUID, UpgradeRequest], set[UUID]]:
    """Decides which upgrade takes which session.

    Args:
        requests: the visitor's upgrades.
        launches: the sessions that were anonymous before the first of these upgrades.
        taken: the newest session that each user has taken before.

    Returns:
        The upgrade that takes each session; and the upgrades of `current` that repeat another one.
    """
    waiting = sorted(launches, reverse=True)
    launch_of = {id_: (began, id_) for began, id_ in waiting}
    newest_taken = dict(taken)
    anonymous: list[Launch] = []  # those that have begun, the newest last
    takers: dict[UUID, UpgradeRequest] = {}
    repeats = set()
    for request in sorted(requests, key=lambda request: (request.upgraded_at, request.id)):
        before = newest_taken.get(request.user_hash)
        if request.session_id is not None:
            launch = launch_of.get(request.session_id)
        else:
            while waiting and waiting[-1][0] <= request.upgraded_at + OVERTAKING:
                anonymous.append(waiting.pop())
            while anonymous and anonymous[-1][1] in takers:
                anonymous.pop()
            launch = anonymous[-1] if anonymous else None
            if before is not None and (launch is None or launch < before):
                repeats.add(request.id)
                continue
        if launch is None or launch[1] in takers:
            continue
        takers[launch[1]] = request
        newest_taken[request.user_hash] = launch if before is None else max(launch, before)
    return takers, repeats
