"""Step 5: the client's address, which proxies pass on in headers that anybody can write.

Which header a proxy writes, nobody can tell from a request. So one rule: `CLIENT_ADDRESS_HEADER`
where it is set; else `X-Forwarded-For`; else, where there is none of it, `Forwarded`.
"""

from collections.abc import Iterator, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from itertools import islice
from socket import AF_INET, inet_pton

from collector.request.forwarded import forwarded_for
from collector.request.headers import Headers

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

# Of a longer chain those that are nearest count: the rest is a client's, which can write thousands.
HOPS = 64
_LIST = "x-forwarded-for"
_STANDARD = "forwarded"


class TrustedProxies:
    """The proxies whose word counts (`TRUSTED_PROXIES`), and where they leave it."""

    def __init__(self, networks: Sequence[Network], header: str = "") -> None:
        """Takes the networks, and `CLIENT_ADDRESS_HEADER`, the empty string where it is unset."""
        # As numbers, by the length of an address: a request is compared with each of them.
        self._networks: dict[int, list[tuple[int, int]]] = {}
        for network in networks:
            bounds = int(network.network_address), int(network.netmask)
            self._networks.setdefault(network.version, []).append(bounds)
        self._header = header.lower()

    def trusts(self, address: Address) -> bool:
        number = int(address)
        for network, mask in self._networks.get(address.version, ()):
            if number & mask == network:
                return True
        return False

    def client(self, peer: Address, headers: Headers) -> Address:
        """The rightmost address that is not a trusted proxy's.

        Args:
            peer: who is at the other end of the connection.
            headers: the request's.

        Each proxy appends the address that it saw, so only the entries to the right of the first
        one that no trusted proxy wrote are facts. What is no address ends the walk: its writer is
        then the closest that is known. Of a chain that is longer than `HOPS`, so much is looked at.
        """
        client = peer
        if not self.trusts(client):
            return client
        for address in islice(self._entries(headers), HOPS):
            if address is None:
                break
            client = address
            if not self.trusts(client):
                break
        return client

    def _entries(self, headers: Headers) -> Iterator[Address | None]:
        """What proxies wrote, the nearest first; None for what is no address."""
        name = self._header or (_LIST if _LIST in headers else _STANDARD)
        lines = headers.getall(name, ())
        if name == _LIST:
            for entry in reversed(",".join(lines).rsplit(",", HOPS)[-HOPS:]):
                if entry.strip():
                    yield parse_address(entry)
        elif name == _STANDARD:
            for line in reversed(lines):
                yield from map(_address_of_node, reversed(forwarded_for(line)))
        elif lines:
            # A header of one address: its proxy replaces what the client wrote, or adds a line.
            yield parse_address(lines[-1])


def _address_of_node(node: str | None) -> Address | None:
    return None if node is None else parse_address(node)


def parse_address(text: str) -> Address | None:
    """An address as proxies write it: bare, with a port, in brackets, with a zone; else None.

    An IPv4-mapped IPv6 address is the IPv4 address that it maps.
    """
    text = text.strip().strip('"')
    try:
        return IPv4Address(inet_pton(AF_INET, text))  # the usual, a tenth of `ip_address`'s time
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
        return address.ipv4_mapped
    return address
