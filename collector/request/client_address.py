"""Step 5: the client's address, which proxies pass on in headers that anybody can write.

Which header a proxy writes, nobody can tell from a request. So one rule: `CLIENT_ADDRESS_HEADER`
where it is set; else `X-Forwarded-For`; else, where there is none of it, `Forwarded`.
"""

from collections.abc import Iterable, Sequence
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address
from itertools import islice
from socket import AF_INET, inet_pton
from typing import NamedTuple

from collector.request.forwarded import forwarded_for
from collector.request.headers import Headers

Address = bytes
"""Its 4 or 16 bytes: objects of `ipaddress` cost more than all else here."""
Network = IPv4Network | IPv6Network

# Of a longer chain those that are nearest count: the rest is a client's, which can write thousands.
HOPS = 64
_LIST = "x-forwarded-for"
_STANDARD = "forwarded"
_REMEMBERED = 1024


class Peer(NamedTuple):
    """Who is at the other end of a connection; no address: it has none, or none that is known."""

    address: Address | None
    is_proxy: bool  # a trusted one


_NOBODY = Peer(None, is_proxy=False)


class TrustedProxies:
    """The proxies whose word counts (`TRUSTED_PROXIES`), and where they leave it."""

    def __init__(self, networks: Sequence[Network], header: str = "") -> None:
        """Takes the networks, and `CLIENT_ADDRESS_HEADER`, the empty string where it is unset."""
        # As numbers, by the length of an address: a request is compared with each of them.
        self._networks: dict[int, list[tuple[int, int]]] = {}
        for network in networks:
            bounds = int(network.network_address), int(network.netmask)
            length = network.max_prefixlen // 8
            self._networks.setdefault(length, []).append(bounds)
        self._header = header.lower()
        # What the peers' texts mean, of proxies alone: a client's is forgotten with its request.
        self._proxies: dict[str, Peer] = {}

    def peer(self, text: str | None) -> Peer:
        """Takes the peer's address as the socket gives it."""
        if text is None:
            return _NOBODY
        known = self._proxies.get(text)
        if known is not None:
            return known
        address = parse_address(text)
        peer = Peer(address, address is not None and self.trusts(address))
        if peer.is_proxy and len(self._proxies) < _REMEMBERED:
            self._proxies[text] = peer
        return peer

    def trusts(self, address: Address) -> bool:
        number = int.from_bytes(address)
        for network, mask in self._networks.get(len(address), ()):
            if number & mask == network:
                return True
        return False

    def client(self, peer: Peer, headers: Headers) -> Address | None:
        """The rightmost address that is not a trusted proxy's; None where the peer has none.

        Args:
            peer: who is at the other end of the connection.
            headers: the request's.

        Each proxy appends the address that it saw, so only the entries to the right of the first
        one that no trusted proxy wrote are facts. What is no address ends the walk: its writer is
        then the closest that is known. Of a chain that is longer than `HOPS`, so much is looked at.
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
        """What proxies wrote, the nearest first; None for who is not named."""
        name = self._header or (_LIST if _LIST in headers else _STANDARD)
        lines = headers.getall(name, ())
        if name == _LIST:
            if len(lines) == 1 and "," not in lines[0]:
                return lines  # the usual
            entries = ",".join(lines).rsplit(",", HOPS)[-HOPS:]
            return [entry for entry in reversed(entries) if entry.strip()]
        if name == _STANDARD:
            return (node for line in reversed(lines) for node in reversed(forwarded_for(line)))
        # A header of one address: its proxy replaces what the client wrote, or adds a line.
        return lines[-1:]


def parse_address(text: str) -> Address | None:
    """An address as proxies write it: bare, with a port, in brackets, with a zone; else None.

    An IPv4-mapped IPv6 address is the IPv4 address that it maps.
    """
    text = text.strip().strip('"')
    try:
        return inet_pton(AF_INET, text)  # the usual, a tenth of `ip_address`'s time
    except (OSError, ValueError):  # ValueError: a NUL, or no UTF-8
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
