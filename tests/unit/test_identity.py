"""contract/identity.py: who is one person, and who never is."""

import hashlib
import hmac
import struct
from ipaddress import IPv4Address, IPv6Address, ip_address
from uuid import RFC_4122, UUID

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from contract.identity import (
    SALT_BYTES,
    USER_AGENT_MAX_BYTES,
    Hasher,
    embedded_ipv4,
    network_of,
)

SALT = bytes(range(32))
SITE = "city.example.org"
NETWORK = ip_address("192.0.2.7").packed
AGENT = "Mozilla/5.0 (X11; Linux x86_64; rv:142.0) Gecko/20100101 Firefox/142.0"

texts = st.text(st.characters(codec="utf-8"), min_size=1, max_size=12)
networks = st.binary(min_size=4, max_size=4) | st.binary(min_size=8, max_size=8)
salts = st.binary(min_size=SALT_BYTES, max_size=SALT_BYTES)
visitors = st.tuples(texts, networks, texts)
users = st.tuples(texts, texts)
hashes = st.binary(min_size=16, max_size=16)


def independent_hash(salt: bytes, tag: bytes, *fields: bytes) -> bytes:
    """The encoding once more, from nothing but its description."""
    message = tag
    for field in fields:
        message += struct.pack(">I", len(field)) + field
    number = int.from_bytes(hmac.new(salt, message, hashlib.sha256).digest()[:16], "big")
    number = number & ~(0xF << 76) | 8 << 76  # version 8
    number = number & ~(0b11 << 62) | 0b10 << 62  # variant 10
    return number.to_bytes(16, "big")


def test_the_visitors_hash_is_the_one_that_stored_rows_have() -> None:
    """A change of the encoding would count everybody twice in the month in which it ships."""
    expected = independent_hash(SALT, b"V", SITE.encode(), NETWORK, AGENT.encode())
    assert Hasher(SALT).visitor(SITE, NETWORK, AGENT) == expected
    assert str(UUID(bytes=expected)) == "a22bec0e-8ae0-8da8-9586-131cd1c59270"


def test_the_users_hash_is_the_one_that_stored_rows_have() -> None:
    """As for visitors: these bytes are a promise to the rows of the current month."""
    expected = independent_hash(SALT, b"U", SITE.encode(), b"4711")
    assert Hasher(SALT).user(SITE, "4711") == expected
    assert str(UUID(bytes=expected)) == "220e8d8b-a2b6-846d-a486-84ef5f3bd770"


@given(salts, visitors, users)
def test_hashes_follow_the_described_encoding(
    salt: bytes, visitor: tuple[str, bytes, str], user: tuple[str, str]
) -> None:
    site, network, agent = visitor
    assert Hasher(salt).visitor(*visitor) == independent_hash(
        salt, b"V", site.encode(), network, agent.encode()
    )
    assert Hasher(salt).user(*user) == independent_hash(
        salt, b"U", *(part.encode() for part in user)
    )


@given(salts, visitors, users)
def test_every_hash_is_a_uuid_of_version_8(
    salt: bytes, visitor: tuple[str, bytes, str], user: tuple[str, str]
) -> None:
    for hash_ in (Hasher(salt).visitor(*visitor), Hasher(salt).user(*user)):
        uuid = UUID(bytes=hash_)
        assert (uuid.version, uuid.variant) == (8, RFC_4122)


@given(salts, visitors, users)
def test_a_sign_ins_digests_follow_the_described_encoding(
    salt: bytes, visitor: tuple[str, bytes, str], user: tuple[str, str]
) -> None:
    as_visitor, as_user = Hasher(salt).visitor(*visitor), Hasher(salt).user(*user)
    assert Hasher(salt).sign_in(as_visitor, as_user) == (
        independent_hash(salt, b"sign-in pair", as_visitor, as_user),
        independent_hash(salt, b"sign-in user", as_user),
        independent_hash(salt, b"sign-in visitor", as_visitor),
    )


@given(salts, salts, st.tuples(hashes, hashes), st.tuples(hashes, hashes))
def test_a_pair_has_one_digest_a_month_and_each_of_it_another(
    salt: bytes, later: bytes, one: tuple[bytes, bytes], other: tuple[bytes, bytes]
) -> None:
    """Else two sign-ins would be one; and none tells of another month, or which user it is of."""
    assume(salt != later)
    first, second = Hasher(salt).sign_in(*one), Hasher(salt).sign_in(*other)
    assert first == Hasher(salt).sign_in(*one)
    assert (first.pair == second.pair) == (one == other)
    assert (first.visitor == second.visitor) == (one[0] == other[0])
    assert (first.user == second.user) == (one[1] == other[1])
    assert len({*first, *one}) == 3 + len({*one})
    assert not {*first} & {*Hasher(later).sign_in(*one)}


def test_without_the_salt_a_digest_can_not_be_found_from_what_rows_hold() -> None:
    """Whoever has both hashes, and another key or none, gets other digests."""
    visitor, user = Hasher(SALT).visitor(SITE, NETWORK, AGENT), Hasher(SALT).user(SITE, "4711")
    digests = {*Hasher(SALT).sign_in(visitor, user)}
    for key in (b"", bytes(32), visitor, user, visitor + user, SALT[:-1] + b"\xff"):
        assert not digests & {*Hasher(key).sign_in(visitor, user)}
        assert not digests & {*Hasher(key).sign_in(user, visitor)}


@given(visitors, visitors)
def test_visitors_who_differ_in_anything_have_different_hashes(
    one: tuple[str, bytes, str], other: tuple[str, bytes, str]
) -> None:
    assert (Hasher(SALT).visitor(*one) == Hasher(SALT).visitor(*other)) == (one == other)


@given(users, users)
def test_users_who_differ_in_anything_have_different_hashes(
    one: tuple[str, str], other: tuple[str, str]
) -> None:
    assert (Hasher(SALT).user(*one) == Hasher(SALT).user(*other)) == (one == other)


@given(st.text(st.characters(codec="ascii"), min_size=3, max_size=20), st.data())
def test_where_one_field_ends_and_the_next_begins_matters(text: str, data: st.DataObject) -> None:
    """`"ab" + "c"` is not `"a" + "bc"`."""
    one = data.draw(st.integers(1, len(text) - 1))
    other = data.draw(st.integers(1, len(text) - 1).filter(lambda cut: cut != one))
    assert Hasher(SALT).user(text[:one], text[one:]) != Hasher(SALT).user(
        text[:other], text[other:]
    )


def test_ab_and_c_are_not_a_and_bc() -> None:
    assert Hasher(SALT).user("ab", "c") != Hasher(SALT).user("a", "bc")
    assert Hasher(SALT).visitor("ab", b"cccc", "d") != Hasher(SALT).visitor("a", b"bccc", "cd")


@given(texts, networks, texts)
def test_a_visitor_is_never_a_user(site: str, network: bytes, agent: str) -> None:
    """Not even one whose id spells a visitor's fields."""
    visitor = Hasher(SALT).visitor(site, network, agent)
    length = len(agent.encode()).to_bytes(4, "big")
    crafted = (network + length + agent.encode()).decode("utf-8", "replace")
    assert visitor != Hasher(SALT).user(site, agent)
    assert visitor != Hasher(SALT).user(site, crafted)


@given(salts, salts, visitors)
def test_another_months_salt_gives_another_hash(
    one: bytes, other: bytes, visitor: tuple[str, bytes, str]
) -> None:
    assume(one != other)
    assert Hasher(one).visitor(*visitor) != Hasher(other).visitor(*visitor)
    assert Hasher(one).user(*visitor[::2]) != Hasher(other).user(*visitor[::2])


def test_nobody_can_be_followed_from_one_site_to_another() -> None:
    assert Hasher(SALT).visitor("a.example", NETWORK, AGENT) != Hasher(SALT).visitor(
        "b.example", NETWORK, AGENT
    )
    assert Hasher(SALT).user("a.example", "4711") != Hasher(SALT).user("b.example", "4711")


@pytest.mark.parametrize(("site", "network", "agent"), [("", NETWORK, AGENT), (SITE, b"", AGENT)])
def test_an_empty_field_is_refused_for_a_visitor(site: str, network: bytes, agent: str) -> None:
    with pytest.raises(ValueError, match="empty"):
        Hasher(SALT).visitor(site, network, agent)


def test_an_empty_user_agent_is_nobody() -> None:
    with pytest.raises(ValueError, match="empty"):
        Hasher(SALT).visitor(SITE, NETWORK, "")


@pytest.mark.parametrize(("site", "user_id"), [("", "4711"), (SITE, "")])
def test_an_empty_field_is_refused_for_a_user(site: str, user_id: str) -> None:
    with pytest.raises(ValueError, match="empty"):
        Hasher(SALT).user(site, user_id)


def test_of_a_user_agent_the_first_1024_bytes_count() -> None:
    assert USER_AGENT_MAX_BYTES == 1024
    full = "a" * 1024
    assert Hasher(SALT).visitor(SITE, NETWORK, full) == Hasher(SALT).visitor(
        SITE, NETWORK, full + "b"
    )
    assert Hasher(SALT).visitor(SITE, NETWORK, full) != Hasher(SALT).visitor(
        SITE, NETWORK, full[:-1]
    )


def test_a_user_agent_that_is_not_utf8_is_hashed_by_its_bytes() -> None:
    """An HTTP server hands such bytes on as lone surrogates; they must be no error."""
    agent = b"Mozilla/5.0 caf\xe9".decode("utf-8", "surrogateescape")
    assert Hasher(SALT).visitor(SITE, NETWORK, agent) == independent_hash(
        SALT, b"V", SITE.encode(), NETWORK, b"Mozilla/5.0 caf\xe9"
    )


@given(st.ip_addresses(v=4))
def test_an_ipv4_address_counts_whole(address: IPv4Address) -> None:
    assert network_of(address.packed) == address.packed


@given(st.ip_addresses(v=4))
def test_a_mapped_address_is_the_ipv4_address_that_it_maps(address: IPv4Address) -> None:
    assert network_of(IPv6Address(f"::ffff:{address}").packed) == network_of(address.packed)


@pytest.mark.parametrize(
    "address",
    [
        "64:ff9b::c000:20a",
        "64:ff9b:1::c000:20a",  # a network's own translator, by /96,
        "64:ff9b:1:abcd::c000:20a",
        "64:ff9b:1:abcd:c0:2:a00:0",  # /64,
        "64:ff9b:1:abc0:0:20a::",  # /56,
        "64:ff9b:1:c000:2:a00::",  # and /48
        "::c000:20a",
        "::ffff:c000:20a",
        "::ffff:0:c000:20a",
        "2002:c000:20a::1",
        "2002:c000:20a:ffff:1:2:3:4",
        "2001::53aa:64c:0:7fff:3fff:fdf5",
    ],
)
def test_an_ipv4_address_within_an_ipv6_address_is_that_address(address: str) -> None:
    assert network_of(IPv6Address(address).packed) == IPv4Address("192.0.2.10").packed


@pytest.mark.parametrize(
    "address",
    ["::1", "::", "::ffff", "64:ff9c::c000:20a", "64:ff9b:2::c000:20a", "2001:1::1", "2003::1"],
)
def test_an_address_beside_those_counts_by_its_64_first_bits(address: str) -> None:
    assert network_of(IPv6Address(address).packed) == IPv6Address(address).packed[:8]


@given(st.ip_addresses(v=4))
def test_two_people_behind_one_translator_are_two(address: IPv4Address) -> None:
    """Whatever the IPv4 address is, it is that one, by the well-known prefix."""
    translated = IPv6Address(int(IPv6Address("64:ff9b::")) | int(address))
    assert network_of(translated.packed) == address.packed


@given(st.ip_addresses(v=6), st.integers(0, 2**64 - 1))
def test_an_ipv6_address_counts_by_its_64_first_bits(address: IPv6Address, low: int) -> None:
    """Privacy extensions give one device a new lower half every day."""
    neighbour = IPv6Address(int(address) >> 64 << 64 | low)
    assume(embedded_ipv4(address.packed) is embedded_ipv4(neighbour.packed) is None)
    assert network_of(address.packed) == network_of(neighbour.packed) == address.packed[:8]


@given(st.ip_addresses(v=6), st.integers(64, 127))
def test_ipv6_networks_next_to_each_other_are_different_people(
    address: IPv6Address, bit: int
) -> None:
    neighbour = IPv6Address(int(address) ^ 1 << bit)
    assume(embedded_ipv4(address.packed) is embedded_ipv4(neighbour.packed) is None)
    assert network_of(address.packed) != network_of(neighbour.packed)
