"""Networks with which the address of each request is compared."""

from collections.abc import Iterable

from contract.setting_values import Network


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
        ranges = self._ranges.get((len(address), address[0]), ())
        return any(first <= address <= last for first, last in ranges) if ranges else False
