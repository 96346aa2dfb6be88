"""The `monthly_user_hash`: who a session is, for one month, for one site, and for nobody else.

HMAC-SHA256 (RFC 2104) keyed by the month's salt; its first 16 bytes as a UUIDv8 (RFC 9562,
section 5.8). The message is a tag and length-prefixed fields, so that no two different callers
share one: `"ab" + "c"` differs from `"a" + "bc"`, and a visitor from a user.
"""

import hashlib
import struct
from ipaddress import IPv4Address, IPv6Address
from typing import Protocol

SALT_BYTES = 32
USER_AGENT_MAX_BYTES = 1024

_LENGTH = struct.Struct(">I")
_SITES = 1024  # of which the beginnings are kept
_VISITOR = b"V"
_USER = b"U"
# RFC 2104: the key, padded to a block of the hash function, with each byte XORed.
_BLOCK_BYTES = 64
_INNER = bytes(byte ^ 0x36 for byte in range(256))
_OUTER = bytes(byte ^ 0x5C for byte in range(256))


def network_of(address: IPv4Address | IPv6Address) -> bytes:
    """The part of an address that stays with one person for a month: 4 or 8 bytes.

    IPv4 whole. IPv6 by its /64, since privacy extensions (RFC 8981) give one device a new lower
    half every day. An IPv4-mapped address is the IPv4 address that it maps.
    """
    if isinstance(address, IPv6Address):
        mapped = address.ipv4_mapped
        return address.packed[:8] if mapped is None else mapped.packed
    return address.packed


class _Hash(Protocol):
    """What `hashlib` makes: a hash of what it was given so far. The type's own name is private."""

    def copy(self) -> "_Hash": ...

    def update(self, data: bytes, /) -> None: ...

    def digest(self) -> bytes: ...


class Hasher:
    """Makes hashes keyed by one salt, which it holds: it must not outlive the salt's month.

    What all hashes have in front is hashed once and copied: HMAC's two inner states, which depend
    on the key alone, and for a site's visitors the tag and the site.
    """

    __slots__ = ("_inner", "_of_site", "_outer")

    def __init__(self, salt: bytes) -> None:
        """`salt`: the month's, 32 bytes.

        Raises:
            ValueError: it is longer than a block of the hash function.
        """
        if len(salt) > _BLOCK_BYTES:
            raise ValueError("the key of an HMAC must fit into a block")
        key = salt.ljust(_BLOCK_BYTES, b"\0")
        self._inner = hashlib.sha256(key.translate(_INNER))
        self._outer = hashlib.sha256(key.translate(_OUTER))
        self._of_site: dict[str, _Hash] = {}

    def visitor(self, site: str, network: bytes, user_agent: str) -> bytes:
        """The 16 bytes of a visitor's `monthly_user_hash`.

        Args:
            site: the lower-case host.
            network: from `network_of`; never empty.
            user_agent: as received, never empty; what is beyond 1,024 bytes does not count.
        """
        agent = user_agent.encode("utf-8", "surrogateescape")[:USER_AGENT_MAX_BYTES]
        begun = self._of_site.get(site) or self._begin_site(site)
        return self._end(begun, _field(network) + _field(agent))

    def user(self, site: str, user_id: str) -> bytes:
        """The 16 bytes of a signed-in user's `monthly_user_hash`.

        Args:
            site: the lower-case host.
            user_id: the token's user claim, never empty.
        """
        user = user_id.encode("utf-8", "surrogatepass")
        return self._end(self._inner, _USER + _field(site.encode()) + _field(user))

    def _begin_site(self, site: str) -> _Hash:
        begun = self._inner.copy()
        begun.update(_VISITOR + _field(site.encode()))
        if len(self._of_site) >= _SITES:
            self._of_site.clear()
        self._of_site[site] = begun
        return begun

    def _end(self, begun: _Hash, rest: bytes) -> bytes:
        inner, outer = begun.copy(), self._outer.copy()
        inner.update(rest)
        outer.update(inner.digest())
        digest = bytearray(outer.digest()[:16])
        digest[6] = digest[6] & 0x0F | 0x80
        digest[8] = digest[8] & 0x3F | 0x80
        return bytes(digest)


def _field(text: bytes) -> bytes:
    if not text:
        raise ValueError("an empty field would make one person of everybody who lacks it")
    return _LENGTH.pack(len(text)) + text
