"""The client's address, which proxies pass on in headers that clients can write, too.

A request does not show which header a proxy wrote. So the rule is: `CLIENT_ADDRESS_HEADER` if it is
set, else `X-Forwarded-For` if the request has it, else `Forwarded`.
"""

import re
from collections.abc import Iterable, Sequence
from ipaddress import IPv6Address, ip_address
from itertools import islice
from socket import AF_INET, inet_pton
from typing import NamedTuple

from collector.request.headers import Headers
from contract.setting_values import Network

Address = bytes
"""4 or 16 bytes."""

# How many entries are read, from the right: a client can write thousands.
HOPS = 64
_X_FORWARDED_FOR = "x-forwarded-for"
_FORWARDED = "forwarded"
_CACHED = 1024
# Of `Forwarded`: a pair, then `;` (another pair of the proxy), `,` (the next proxy) or the end.
_PAIR = re.compile(
    r"[ \t]*(?:(?P<name>[!#$%&'*+.^_`|~0-9A-Za-z-]+)=(?P<value>[^\s\",;=]+|\"(?:[^\"\\]|\\.)*\"))?"
    r"[ \t]*(?P<next>[;,]|$)"
)
_MOST_PARTS = 256  # more than any chain of proxies needs


class Networks:
    """Contains the addresses (4 or 16 bytes) of its networks.

    It compares bytes: objects of `ipaddress` take ten times as long, and some cache addresses.
    """

    def __init__(self, networks: Iterable[Network]) -> None:
        # By the length of an address and its first byte, because most addresses are in none.
        self._ranges: dict[tuple[int, int], list[tuple[bytes, bytes]]] = {}
        for network in networks:
            first, last = network.network_address.packed, network.broadcast_address.packed
            for byte in range(first[0], last[0] + 1):
                self._ranges.setdefault((len(first), byte), []).append((first, last))

    def __contains__(self, address: bytes) -> bool:
        for first, last in self._ranges.get((len(address), address[0]), ()):
            if first <= address <= last:
                return True
        return False


class Peer(NamedTuple):
    """The other end of a connection."""

    address: Address | None  # None: it has none, or it is unknown
    is_proxy: bool  # a trusted proxy


_UNKNOWN = Peer(None, is_proxy=False)


class TrustedProxies:
    """Knows the trusted proxies (`TRUSTED_PROXIES`), and reads what they write."""

    def __init__(self, networks: Sequence[Network], header: str = "") -> None:
        """`header`: `CLIENT_ADDRESS_HEADER`, or the empty string."""
        self._networks = Networks(networks)
        self._header = header.lower()
        # Only for proxies: a client's address must not outlive its request.
        self._proxies: dict[str, Peer] = {}

    def peer(self, text: str | None) -> Peer:
        """The peer with this address, as the socket gives it."""
        if text is None:
            return _UNKNOWN
        known = self._proxies.get(text)
        if known is not None:
            return known
        address = parse_address(text)
        peer = Peer(address, address is not None and self.trusts(address))
        if peer.is_proxy and len(self._proxies) < _CACHED:
            self._proxies[text] = peer
        return peer

    def trusts(self, address: Address) -> bool:
        return address in self._networks

    def client(self, peer: Peer, headers: Headers) -> Address | None:
        """The rightmost address that is not a trusted proxy's; None if the peer has none.

        Each proxy appends the address that it saw. So, from the right, entries are reliable up to
        the first address that is not a trusted proxy's. If an entry is not an address, the proxy
        that wrote it counts as the client. At most `HOPS` entries are read.
        """
        client = peer.address
        if not peer.is_proxy:
            return client
        for node in islice(self._nodes(headers), HOPS):
            address = None if node is None else parse_address(node)
            if address is None:
                break
            client = address
            if not self.trusts(client):
                break
        return client

    def _nodes(self, headers: Headers) -> Iterable[str | None]:
        """What the proxies wrote, the nearest one's first; None for an entry without an address."""
        name = self._header or (_X_FORWARDED_FOR if _X_FORWARDED_FOR in headers else _FORWARDED)
        lines = headers.getall(name, ())
        if name == _X_FORWARDED_FOR:
            if len(lines) == 1 and "," not in lines[0]:
                return lines  # the usual case
            entries = ",".join(lines).rsplit(",", HOPS)[-HOPS:]
            return [entry for entry in reversed(entries) if entry.strip()]
        if name == _FORWARDED:
            return (node for line in reversed(lines) for node in reversed(_forwarded_for(line)))
        # A header of one address: the proxy replaces what the client wrote, or adds a line.
        return lines[-1:]


def parse_address(text: str) -> Address | None:
    """An address as proxies write it: bare, with a port, in brackets or with a zone; else None.

    An IPv4-mapped IPv6 address becomes the IPv4 address.
    """
    text = text.strip().strip('"')
    try:
        return inet_pton(AF_INET, text)  # the usual case, in a tenth of `ip_address`'s time
    except (OSError, ValueError):  # ValueError: a NUL, or not UTF-8
        pass
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped.packed
    return address.packed


def _forwarded_for(line: str) -> list[str | None]:
    """The values of `for` in a line of `Forwarded` (RFC 7239); None for an element without it.

    The result is [None] if the line is malformed or has too many parts: then it is unknown which of
    them the client wrote.
    """
    if line.count(",") + line.count(";") >= _MOST_PARTS:
        return [None]
    nodes: list[str | None] = []
    node: str | None = None
    named = False
    at = 0
    while True:
        pair = _PAIR.match(line, at)
        if pair is None:
            return [None]
        if pair["name"] is not None:
            named = True
            if pair["name"].lower() == "for":
                node = pair["value"].strip('"')
        if pair["next"] != ";":
            if named:
                nodes.append(node)
            node, named = None, False
        if not pair["next"]:
            return nodes
        at = pair.end()
