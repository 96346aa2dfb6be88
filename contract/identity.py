"""The `monthly_user_hash`: who a session is, for one month, for one site, and for nobody else.

HMAC-SHA256 (RFC 2104) keyed by the month's salt; its first 16 bytes as a UUIDv8 (RFC 9562,
section 5.8). The message is a tag and length-prefixed fields, so that no two different callers
share one: `"ab" + "c"` differs from `"a" + "bc"`, and a visitor from a user.
"""

import hmac
from ipaddress import IPv4Address, IPv6Address

SALT_BYTES = 32
USER_AGENT_MAX_BYTES = 1024

_VISITOR = b"V"
_USER = b"U"


def network_of(address: IPv4Address | IPv6Address) -> bytes:
    """The part of an address that stays with one person for a month: 4 or 8 bytes.

    IPv4 whole. IPv6 by its /64, since privacy extensions (RFC 8981) give one device a new lower
    half every day. An IPv4-mapped address is the IPv4 address that it maps.
    """
    if isinstance(address, IPv6Address):
        mapped = address.ipv4_mapped
        return address.packed[:8] if mapped is None else mapped.packed
    return address.packed


def visitor_hash(salt: bytes, site: str, network: bytes, user_agent: str) -> bytes:
    """The 16 bytes of a visitor's `monthly_user_hash`.

    Args:
        salt: the month's, 32 bytes.
        site: the lower-case host.
        network: from `network_of`; never empty.
        user_agent: as received, never empty; what is beyond 1,024 bytes does not count.
    """
    agent = user_agent.encode("utf-8", "surrogateescape")[:USER_AGENT_MAX_BYTES]
    return _uuid8(salt, _VISITOR, site.encode(), network, agent)


def user_hash(salt: bytes, site: str, user_id: str) -> bytes:
    """The 16 bytes of a signed-in user's `monthly_user_hash`.

    Args:
        salt: the month's, 32 bytes.
        site: the lower-case host.
        user_id: the token's user claim, never empty.
    """
    return _uuid8(salt, _USER, site.encode(), user_id.encode("utf-8", "surrogatepass"))


def _uuid8(salt: bytes, tag: bytes, *fields: bytes) -> bytes:
    if not all(fields):
        raise ValueError("an empty field would make one person of everybody who lacks it")
    message = tag + b"".join(len(field).to_bytes(4, "big") + field for field in fields)
    digest = bytearray(hmac.digest(salt, message, "sha256")[:16])
    digest[6] = digest[6] & 0x0F | 0x80
    digest[8] = digest[8] & 0x3F | 0x80
    return bytes(digest)
