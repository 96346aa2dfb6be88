"""Checks the clock of a Redis server, and those of its settings on which our promises depend."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Final

from redis.asyncio import Redis
from redis.exceptions import ResponseError

from contract.calendar import SECOND_US
from contract.settings import REDIS_URL, SALT_REDIS_URL
from runtime.clock import Clock
from runtime.redis_client import as_retry
from runtime.redis_connection import Command
from runtime.redis_replay import SALT_WRITES, STREAM_WRITES, Survival, survival
from runtime.server_checks import UNKNOWN, Broken, Examine, clock_difference
from runtime.shards import Shards

_KEPT: Final = {
    "maxmemory-policy": (
        ("noeviction",),
        "a full server then deletes streams that hold sessions, or the salt",
    ),
    "appendonly": (
        ("yes",),
        "a restart then loses sessions that were answered 2xx, and the month's salt",
    ),
    "appendfsync": (
        ("everysec", "always"),
        "a loss of power can then lose any number of sessions: see docs/durability.md",
    ),
}
_REPLAY: Final = {
    Survival.DROPPED: (
        "lacks rights",
        "a restart then loses sessions that were answered 2xx, or the salt",
    ),
    Survival.UNKNOWN: (
        UNKNOWN,
        "this account may not check (ACL DRYRUN) whether a restart keeps transactions",
    ),
}

REPLAY_TO_DO: Final = (
    "give it all rights in the users' file, as deploy/redis-users.acl does: user default off "
    "resetpass ~* &* +@all; then ACL LOAD. `off` means that nobody can log in as this user"
)


def redis_examinations(streams: Shards, clock: Clock, salts: Redis | None = None) -> list[Examine]:
    """The checks of the streams' servers, and of the salt's server if it is another one."""
    found: list[Examine] = [partial(_examine_streams, streams, clock)]
    if salts is not None:
        found.append(partial(examine_redis, salts, clock, SALT_REDIS_URL.name, SALT_WRITES))
    return found


async def _examine_streams(streams: Shards, clock: Clock) -> list[Broken]:
    with as_retry("reading the servers' settings"):
        servers = await streams.servers()
    found = [
        await examine_redis(server, clock, REDIS_URL.name, STREAM_WRITES)
        for server in servers.values()
    ]
    # A fault of several servers is logged once.
    return list(dict.fromkeys(broken for of_server in found for broken in of_server))


async def examine_redis(
    redis: Redis, clock: Clock, setting: str, writes: Sequence[Command]
) -> list[Broken]:
    """The settings of a server that break a promise, or that could not be checked.

    Args:
        redis: the server.
        clock: our clock, with which the server's is compared.
        setting: the setting that names the server.
        writes: the commands that must survive its restart (`runtime.redis_replay`).

    Raises:
        Retry: it does not answer.
    """
    with as_retry("reading the server's settings"):
        values = await _settings(redis)
        asked_us = clock()
        seconds, microseconds = await redis.time()
        answered_us = clock()
    broken = []
    for name, (good, why) in _KEPT.items():
        value = values.get(name)
        if name == "appendfsync" and values.get("appendonly") == "no":
            continue  # `appendonly` is reported already
        if value is None:
            why_not = "this account may not read it"
            broken.append(Broken(setting, name, UNKNOWN, why_not, f"check that it is {good[0]}"))
        elif value not in good:
            to_do = f"CONFIG SET {name} {' or '.join(good)}, and the same in its configuration"
            broken.append(Broken(setting, name, value, why, to_do))
    replay = _REPLAY.get(await survival(redis, writes))
    if replay is not None:
        broken.append(Broken(setting, "user default", *replay, REPLAY_TO_DO))
    difference = clock_difference(
        setting, seconds * SECOND_US + microseconds, asked_us, answered_us
    )
    return [*broken, difference] if difference else broken


async def _settings(redis: Redis) -> Mapping[str, str]:
    try:
        found: Any = await redis.config_get(*_KEPT)
    except ResponseError:  # refused, as by managed servers: INFO has two of the three
        found = {}
    texts = {_text(name): _text(value) for name, value in found.items()}
    if "maxmemory-policy" not in texts or "appendonly" not in texts:
        info: Any = await redis.info("everything")
        if policy := info.get("maxmemory_policy"):
            texts.setdefault("maxmemory-policy", str(policy))
        if "aof_enabled" in info:
            texts.setdefault("appendonly", "yes" if info["aof_enabled"] else "no")
    return texts


def _text(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else value
