"""Requests of beacons, as bytes: what a browser sends, through a trusted proxy.

Each has an id of its own, so that each becomes a row.
"""

import random
import secrets
from collections.abc import Iterator
from itertools import count
from socket import AF_INET, inet_ntop

from bench.load.people import UserAgents, unused_ipv4
from runtime.clock import wall_clock

# On average 20 characters, like the hosts of such platforms.
_SITES = tuple(
    f"{name}.example.org" for name in ("a-city", "gemeente-x", "participer", "participate", "town")
)
_KINDS = 8192
_ID_END = 14  # the last twelve digits of the id, and `"}`


def beacons(host: str) -> Iterator[bytes]:
    """Any number of requests to a collector (with its port), of a fixed number of kinds: of
    User-Agent, address and site.
    """
    dice = random.Random(1)
    agents = UserAgents.load("user_agents.txt")
    # A UUIDv7's first 48 bits are the time (RFC 9562); the rest counts.
    tail = secrets.token_hex(3)
    run = f"{wall_clock() // 1000:012x}7{tail[:3]}8{tail[3:]}"
    begin = f'{{"id":"{run[:8]}-{run[8:12]}-{run[12:16]}-{run[16:20]}-'
    kinds = [
        (
            "POST /web_api/v1/sessions HTTP/1.1\r\n"
            f"Host: {host}\r\n"
            f"X-Forwarded-For: {inet_ntop(AF_INET, unused_ipv4(dice.getrandbits(28)))}\r\n"
            "X-Forwarded-Proto: https\r\n"
            f"User-Agent: {agent}\r\n"
            "Accept: */*\r\n"
            "Accept-Language: nl-BE,nl;q=0.9,en;q=0.8\r\n"
            "Accept-Encoding: gzip, deflate, br\r\n"
            f"Origin: https://{dice.choice(_SITES)}\r\n"
            "Content-Type: application/json\r\n"
            f"Content-Length: {len(begin) + _ID_END}\r\n"
            f"\r\n{begin}"
        ).encode("ascii")
        for agent in dice.choices(agents.texts, agents.weights, k=_KINDS)
    ]
    for number in count():
        yield b'%b%012x"}' % (kinds[number % _KINDS], number)
