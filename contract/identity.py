"""The `monthly_user_hash`: who a session is, for one month, for one site, and for nobody else.

HMAC-SHA256 (RFC 2104) keyed by the month's salt; its first 16 bytes as a UUIDv8 (RFC 9562,
section 5.8). The message is a tag and length-prefixed fields, so that no two different callers
share one: `"ab" + "c"` differs from `"a" + "bc"`, and a visitor from a user.
"""

import hashlib
import struct
from ipaddress import IPv4Address, IPv6Address

SALT_BYTES = 32
USER_AGENT_MAX_BYTES = 1024

_LENGTH = struct.Struct(">I")
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


class Hasher:
    """Makes hashes keyed by one salt, which it holds: it must not outlive the salt's month.

    HMAC's two inner states depend on the key alone. They are made once and copied for each hash,
    which costs half of what `hmac.digest` does for a message of this length.
    """

    __slots__ = ("_inner", "_outer")

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

    def visitor(self, site: str, network: bytes, user_agent: str) -> bytes:
        """The 16 bytes of a visitor's `monthly_user_hash`.

        Args:
            site: the lower-case host.
            network: from `network_of`; never empty.
            user_agent: as received, never empty; what is beyond 1,024 bytes does not count.
        """
        agent = user_agent.encode("utf-8", "surrogateescape")[:USER_AGENT_MAX_BYTES]
        return self._uuid8(_VISITOR, site.encode(), network, agent)

    def user(self, site: str, user_id: str) -> bytes:
        """The 16 bytes of a signed-in user's `monthly_user_hash`.

        Args:
            site: the lower-case host.
            user_id: the token's user claim, never empty.
        """
        return self._uuid8(_USER, site.encode(), user_id.encode("utf-8", "surrogatepass"))

    def _uuid8(self, tag: bytes, *fields: bytes) -> bytes:
        if not all(fields):
            raise ValueError("an empty field would make one person of everybody who lacks it")
        message = tag + b"".join([_LENGTH.pack(len(field)) + field for field in fields])
        inner = self._inner.copy()
        inner.update(message)
        outer = self._outer.copy()
        outer.update(inner.digest())
        digest = bytearray(outer.digest())
        digest[6] = digest[6] & 0x0F | 0x80
        digest[8] = digest[8] & 0x3F | 0x80
        return bytes(digest[:16])
