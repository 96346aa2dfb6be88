"""The client's address, which proxies pass on in headers that clients can write, too.

A request does not show which header a proxy wrote. So the rule is: `CLIENT_ADDRESS_HEADER` if it is
set, else `X-Forwarded-For` if the request has it, else `Forwarded`.
"""

from collections.abc import Iterable, Sequence
from ipaddress import IPv6Address, ip_address
from itertools import islice
from socket import AF_INET, inet_pton
from typing import NamedTuple

from collector.request.forwarded import forwarded_for
from collector.request.headers import Headers
from collector.request.networks import Networks
from contract.setting_values import Network

Address = bytes
"""4 or 16 bytes."""

# How many entries are read, from the right: a client can write thousands.
HOPS = 64
_X_FORWARDED_FOR = "x-forwarded-for"
_FORWARDED = "forwarded"
_CACHED = 1024


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
            return (node for line in reversed(lines) for node in reversed(forwarded_for(line)))
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
