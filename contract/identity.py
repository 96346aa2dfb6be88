"""The `monthly_user_hash`: who a session belongs to, for one month and one site.

HMAC-SHA256 (RFC 2104) keyed by the month's salt; its first 16 bytes as a UUIDv8 (RFC 9562,
section 5.8). The message is a tag and length-prefixed fields, so that two different callers never
have the same message: `"ab" + "c"` differs from `"a" + "bc"`, and a visitor from a user.

A sign-in has three more hashes (`SignIn`), made the same way.
"""

import hmac
import struct
from typing import NamedTuple

SALT_BYTES = 32
USER_AGENT_MAX_BYTES = 1024

_IPV4_BYTES = 4
# Prefixes of addresses that contain an IPv4 address: RFC 6052, 8215, 4380, 4291 (2.5.5), 7915.
_NAT64 = bytes.fromhex("0064ff9b0000000000000000")
_LOCAL_NAT64 = bytes.fromhex("0064ff9b0001")
_TEREDO = bytes.fromhex("20010000")
_MAPPED = bytes.fromhex("00000000000000000000ffff")
_TRANSLATED = bytes.fromhex("0000000000000000ffff0000")
_ZEROS = bytes(12)

_LENGTH = struct.Struct(">I")
_SITES_MAX = 1024  # of the cache of begun hashes
_VISITOR = b"V"
_USER = b"U"
_SIGN_IN = b"sign-in "


def network_of(address: bytes) -> bytes:
    """The part of an address (4 or 16 bytes) that stays with one person for a month: 4 or 8 bytes.

    That is a whole IPv4 address, and the /64 of an IPv6 address, because privacy extensions
    (RFC 8981) give a device a new lower half every day. If an IPv6 address embeds an IPv4 address,
    it counts as the IPv4 address.
    """
    if len(address) == _IPV4_BYTES:
        return address
    return embedded_ipv4(address) or address[:8]


def embedded_ipv4(packed: bytes) -> bytes | None:
    """The IPv4 address (4 bytes) that is embedded in an IPv6 address (16 bytes), or None.

    All people behind one translator (NAT64) or tunnel share a /64, and this distinguishes them. Do
    not use it for anything else: the owner of a 6to4 address can choose the embedded address.
    """
    first = packed[:2]
    if first == b"\x00\x64":
        if packed.startswith(_NAT64):
            return packed[12:]
        return _local_nat64(packed) if packed.startswith(_LOCAL_NAT64) else None
    if first == b"\x20\x02":  # 6to4: RFC 3056
        return packed[2:6]
    if packed.startswith(_TEREDO):
        return bytes(byte ^ 0xFF for byte in packed[12:])
    if packed.startswith((_MAPPED, _TRANSLATED)):
        return packed[12:]
    # IPv4-compatible; `::1` and similar ones are not IPv4 addresses.
    return packed[12:] if packed.startswith(_ZEROS) and any(packed[12:14]) else None


def _local_nat64(packed: bytes) -> bytes:
    """The address from a network's own translator, in one of four places (RFC 6052, section 2.2).
    Only zeros follow it, which shows the place.
    """
    if any(packed[13:]):
        return packed[12:]  # /96
    if packed[12]:
        return packed[9:13]  # /64
    if packed[11]:
        return packed[7:8] + packed[9:12]  # /56
    return packed[6:8] + packed[9:11]  # /48


class SignIn(NamedTuple):
    """How a sign-in is counted: digests (16 bytes each) of the pair, the user and the visitor.

    They allow counting without identifying: without the salt nobody can find out whose digest it
    is, or which three digests belong together.
    """

    pair: bytes
    user: bytes
    visitor: bytes


class Hasher:
    """Makes hashes keyed by one salt. It holds the salt, so it must not outlive the salt's month.

    The common beginning of all hashes is hashed once and copied: the key, and for a site's visitors
    the tag and the site.
    """

    __slots__ = ("_begun", "_of_site")

    def __init__(self, salt: bytes) -> None:
        self._begun = hmac.new(salt, digestmod="sha256")
        self._of_site: dict[str, hmac.HMAC] = {}

    def visitor(self, site: str, network: bytes, user_agent: str) -> bytes:
        """The 16 bytes of a visitor's `monthly_user_hash`.

        Args:
            site: the lower-case host.
            network: from `network_of`; never empty.
            user_agent: as received, never empty; only the first 1,024 bytes count.
        """
        agent = user_agent.encode("utf-8", "surrogateescape")[:USER_AGENT_MAX_BYTES]
        begun = self._of_site.get(site) or self._begin_site(site)
        return _end(begun, _field(network) + _field(agent))

    def user(self, site: str, user_id: str) -> bytes:
        """The same for a signed-in user. `user_id`: the token's user claim, never empty."""
        user = user_id.encode("utf-8", "surrogatepass")
        return _end(self._begun, _USER + _field(site.encode()) + _field(user))

    def sign_in(self, visitor: bytes, user: bytes) -> SignIn:
        """The digests of a sign-in, from two values of `monthly_user_hash` (16 bytes) on one site:
        the request's as a visitor, and the user's.
        """
        begun, of_visitor, of_user = self._begun, _field(visitor), _field(user)
        return SignIn(
            _end(begun, _SIGN_IN + b"pair" + of_visitor + of_user),
            _end(begun, _SIGN_IN + b"user" + of_user),
            _end(begun, _SIGN_IN + b"visitor" + of_visitor),
        )

    def _begin_site(self, site: str) -> hmac.HMAC:
        begun = self._begun.copy()
        begun.update(_VISITOR + _field(site.encode()))
        if len(self._of_site) >= _SITES_MAX:
            self._of_site.clear()
        self._of_site[site] = begun
        return begun


def _end(begun: hmac.HMAC, rest: bytes) -> bytes:
    mac = begun.copy()
    mac.update(rest)
    digest = bytearray(mac.digest()[:16])
    digest[6] = digest[6] & 0x0F | 0x80
    digest[8] = digest[8] & 0x3F | 0x80
    return bytes(digest)


def _field(text: bytes) -> bytes:
    if not text:
        raise ValueError("an empty field would give many people the same hash")
    return _LENGTH.pack(len(text)) + text
