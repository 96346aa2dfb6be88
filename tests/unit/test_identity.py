"""contract/identity.py: who counts as one person, and who never does."""

import hashlib
import hmac
import struct
from ipaddress import IPv6Address, ip_address
from uuid import RFC_4122, UUID

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from contract.identity import SALT_BYTES, Hasher, embedded_ipv4, network_of

SALT = bytes(range(32))
SITE = "city.example.org"
NETWORK = ip_address("192.0.2.7").packed
AGENT = "Mozilla/5.0 (X11; Linux x86_64; rv:142.0) Gecko/20100101 Firefox/142.0"

texts = st.text(st.characters(codec="utf-8"), min_size=1, max_size=12)
networks = st.binary(min_size=4, max_size=4) | st.binary(min_size=8, max_size=8)
salts = st.binary(min_size=SALT_BYTES, max_size=SALT_BYTES)
visitors = st.tuples(texts, networks, texts)
users = st.tuples(texts, texts)
Person = tuple[str, bytes, str] | tuple[str, str]


def hash_of(salt: bytes, person: Person) -> bytes:
    if len(person) == 3:
        return Hasher(salt).visitor(*person)
    return Hasher(salt).user(*person)


def independent_hash(salt: bytes, tag: bytes, *fields: bytes) -> bytes:
    """The encoding, implemented once more from its description."""
    message = tag
    for field in fields:
        message += struct.pack(">I", len(field)) + field
    number = int.from_bytes(hmac.new(salt, message, hashlib.sha256).digest()[:16], "big")
    number = number & ~(0xF << 76) | 8 << 76  # version 8
    number = number & ~(0b11 << 62) | 0b10 << 62  # variant 10
    return number.to_bytes(16, "big")


def test_the_hashes_are_those_of_stored_rows() -> None:
    """After a change of the encoding, everybody would be counted twice in that month."""
    visitor, user = Hasher(SALT).visitor(SITE, NETWORK, AGENT), Hasher(SALT).user(SITE, "4711")
    assert str(UUID(bytes=visitor)) == "a22bec0e-8ae0-8da8-9586-131cd1c59270"
    assert str(UUID(bytes=user)) == "220e8d8b-a2b6-846d-a486-84ef5f3bd770"


@given(salts, visitors, users)
def test_hashes_and_digests_follow_the_described_encoding(
    salt: bytes, visitor: tuple[str, bytes, str], user: tuple[str, str]
) -> None:
    site, network, agent = visitor
    as_visitor, as_user = Hasher(salt).visitor(*visitor), Hasher(salt).user(*user)
    assert as_visitor == independent_hash(salt, b"V", site.encode(), network, agent.encode())
    assert as_user == independent_hash(salt, b"U", *(part.encode() for part in user))
    assert Hasher(salt).sign_in(as_visitor, as_user) == (
        independent_hash(salt, b"sign-in pair", as_visitor, as_user),
        independent_hash(salt, b"sign-in user", as_user),
        independent_hash(salt, b"sign-in visitor", as_visitor),
    )
    for uuid in (UUID(bytes=as_visitor), UUID(bytes=as_user)):
        assert (uuid.version, uuid.variant) == (8, RFC_4122)


@pytest.mark.parametrize(
    "person",
    [("", NETWORK, AGENT), (SITE, b"", AGENT), (SITE, NETWORK, ""), ("", "4711"), (SITE, "")],
)
def test_an_empty_field_is_refused(person: Person) -> None:
    with pytest.raises(ValueError, match="empty"):
        hash_of(SALT, person)


@pytest.mark.parametrize("agent", [b"a" * 1023, b"a" * 1024, b"a" * 1025, b"Mozilla/5.0 caf\xe9"])
def test_a_user_agent_is_hashed_by_its_first_1024_bytes(agent: bytes) -> None:
    """An HTTP server passes bytes that are not UTF-8 on as lone surrogates."""
    found = Hasher(SALT).visitor(SITE, NETWORK, agent.decode("utf-8", "surrogateescape"))
    assert found == independent_hash(SALT, b"V", SITE.encode(), NETWORK, agent[:1024])


@pytest.mark.parametrize(
    "address",
    [
        "192.0.2.10",
        "64:ff9b::c000:20a",
        "64:ff9b:1::c000:20a",  # a network's own translator, by /96,
        "64:ff9b:1:abcd::c000:20a",
        "64:ff9b:1:abcd:c0:2:a00:0",  # /64,
        "64:ff9b:1:abc0:0:20a::",  # /56,
        "64:ff9b:1:c000:2:a00::",  # and /48
        *("::c000:20a", "::ffff:c000:20a", "::ffff:0:c000:20a"),
        *("2002:c000:20a::1", "2002:c000:20a:ffff:1:2:3:4", "2001::53aa:64c:0:7fff:3fff:fdf5"),
    ],
)
def test_an_ipv4_address_counts_whole_alone_or_within_an_ipv6_address(address: str) -> None:
    assert network_of(ip_address(address).packed) == ip_address("192.0.2.10").packed


@pytest.mark.parametrize(
    "address",
    ["::1", "::", "::ffff", "64:ff9c::c000:20a", "64:ff9b:2::c000:20a", "2001:1::1", "2003::1"],
)
def test_other_ipv6_addresses_count_by_their_first_64_bits(address: str) -> None:
    assert network_of(IPv6Address(address).packed) == IPv6Address(address).packed[:8]


@given(st.ip_addresses(v=6), st.integers(0, 2**64 - 1), st.integers(64, 127))
def test_two_ipv6_addresses_are_one_network_if_their_first_64_bits_are_the_same(
    address: IPv6Address, low: int, bit: int
) -> None:
    """Privacy extensions give a device a new lower half every day."""
    same = IPv6Address(int(address) >> 64 << 64 | low)
    other = IPv6Address(int(address) ^ 1 << bit)
    assume(not any(embedded_ipv4(each.packed) for each in (address, same, other)))
    assert network_of(address.packed) == network_of(same.packed) == address.packed[:8]
    assert network_of(address.packed) != network_of(other.packed)
