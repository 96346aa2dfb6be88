"""collector/client_address.py: the client's address, which no client can choose."""

from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.client_address import TrustedProxies, parse_address

NETWORKS = [ip_network("10.0.0.0/8"), ip_network("192.0.2.7/32"), ip_network("2001:db8:1::/48")]
PROXIES = TrustedProxies(NETWORKS)
NOBODY_TRUSTED = TrustedProxies([])
PROXY = ip_address("10.0.0.1")

addresses = st.ip_addresses()
clients = addresses.map(lambda address: parse_address(str(address)) or address).filter(
    lambda address: not PROXIES.trusts(address)
)
trusted = st.integers(0, 2**24 - 1).map(lambda low: ip_address((10 << 24) + low))
# What a client may write: anything, among it what looks like a proxy's work.
entries = (
    addresses.map(str)
    | trusted.map(str)
    | st.text(st.characters(exclude_characters="\r\n"), max_size=20)
    | st.sampled_from(["", ",", ",,", "unknown", '"', "[", "10.0.0.1:80", "::ffff:10.0.0.1", " "])
)


def client(peer: str, *headers: str, proxies: TrustedProxies = PROXIES) -> str:
    return str(proxies.client(ip_address(peer), headers))


def test_without_proxies_the_peer_is_the_client_whatever_is_written() -> None:
    assert client("203.0.113.9", "198.51.100.1", proxies=NOBODY_TRUSTED) == "203.0.113.9"


def test_a_peer_that_is_not_trusted_is_the_client() -> None:
    assert client("203.0.113.9", "198.51.100.1") == "203.0.113.9"


def test_behind_a_proxy_the_client_is_the_address_that_it_saw() -> None:
    assert client("10.0.0.1", "198.51.100.1") == "198.51.100.1"
    assert client("192.0.2.7", "198.51.100.1") == "198.51.100.1"
    assert client("2001:db8:1::5", "2001:db8:2::9") == "2001:db8:2::9"


def test_the_client_is_the_rightmost_address_that_is_no_trusted_proxys() -> None:
    assert client("10.0.0.1", "198.51.100.1, 203.0.113.9, 10.1.1.1, 192.0.2.7") == "203.0.113.9"


def test_what_a_client_has_written_to_the_left_does_not_count() -> None:
    assert client("10.0.0.1", "1.1.1.1, 198.51.100.1") == "198.51.100.1"
    assert client("10.0.0.1", "10.0.0.9, 198.51.100.1") == "198.51.100.1"
    assert client("10.0.0.1", "unknown, 198.51.100.1, 10.0.0.2") == "198.51.100.1"


def test_several_header_lines_are_one_list_in_their_order() -> None:
    assert client("10.0.0.1", "1.1.1.1", "198.51.100.1", "10.0.0.2") == "198.51.100.1"
    assert client("10.0.0.1", "1.1.1.1, 2.2.2.2", "10.0.0.3, 10.0.0.2") == "2.2.2.2"


@pytest.mark.parametrize("headers", [(), ("",), (" , ,",), ("", "")])
def test_a_proxy_that_names_nobody_is_itself_the_client(headers: tuple[str, ...]) -> None:
    assert client("10.0.0.1", *headers) == "10.0.0.1"


def test_where_all_are_trusted_the_first_of_them_is_the_client() -> None:
    assert client("10.0.0.1", "10.0.0.3, 10.0.0.2") == "10.0.0.3"


@pytest.mark.parametrize("garbage", ["unknown", "_hidden", "1.2.3", "é", "\udcff", "\0"])
def test_garbage_ends_the_walk_at_whoever_wrote_it(garbage: str) -> None:
    """Otherwise a client could hide behind it and choose the entry on its left."""
    assert client("10.0.0.1", f"1.1.1.1, {garbage}") == "10.0.0.1"
    assert client("10.0.0.1", f"1.1.1.1, {garbage}, 10.0.0.2") == "10.0.0.2"


def test_empty_entries_are_passed_over() -> None:
    assert client("10.0.0.1", "1.1.1.1, 198.51.100.1, , 10.0.0.2,") == "198.51.100.1"


def test_200_entries_are_walked_from_the_right() -> None:
    spoofed = ", ".join(["1.1.1.1"] * 200)
    assert client("10.0.0.1", f"{spoofed}, 198.51.100.1") == "198.51.100.1"
    hops = ", ".join(f"10.0.1.{n}" for n in range(200))
    assert client("10.0.0.1", f"198.51.100.1, {hops}") == "198.51.100.1"


def test_a_mapped_address_in_a_list_is_the_ipv4_address() -> None:
    """A dual-stack proxy writes both forms for one client, and for a trusted one."""
    assert client("10.0.0.1", "1.1.1.1, ::ffff:198.51.100.1") == "198.51.100.1"
    assert client("10.0.0.1", "198.51.100.1, ::ffff:10.0.0.2") == "198.51.100.1"
    assert client("10.0.0.1", "198.51.100.1, [::ffff:10.0.0.2]:443") == "198.51.100.1"


@given(
    address=clients,
    hops=st.lists(trusted, max_size=4),
    written=st.lists(entries, max_size=6),
    other=st.lists(entries, max_size=6),
    own_line=st.booleans(),
)
def test_whatever_a_client_writes_its_address_is_the_one_that_the_proxy_saw(
    *,
    address: IPv4Address | IPv6Address,
    hops: list[IPv4Address | IPv6Address],
    written: list[str],
    other: list[str],
    own_line: bool,
) -> None:
    """The proxies append to the client's line, or add a line of their own."""
    seen = ", ".join(map(str, [address, *hops]))
    for lines in ([", ".join(written)], [", ".join(other)], written, other, []):
        headers = [*lines, seen] if own_line or not lines else [*lines[:-1], f"{lines[-1]}, {seen}"]
        assert PROXIES.client(PROXY, headers) == address


@given(addresses, st.lists(entries, max_size=8))
def test_any_list_gives_an_address_and_never_an_error(
    peer: IPv4Address | IPv6Address, headers: list[str]
) -> None:
    assert PROXIES.client(peer, headers) is not None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("192.0.2.1", "192.0.2.1"),
        (" 192.0.2.1\t", "192.0.2.1"),
        ("192.0.2.1:54321", "192.0.2.1"),
        ("2001:db8::1", "2001:db8::1"),
        ("2001:DB8:0:0::1", "2001:db8::1"),
        ("[2001:db8::1]", "2001:db8::1"),
        ("[2001:db8::1]:54321", "2001:db8::1"),
        ('"[2001:db8::1]:54321"', "2001:db8::1"),
        ("fe80::1%eth0", "fe80::1"),
        ("[fe80::1%25eth0]:80", "fe80::1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("::FFFF:c000:201", "192.0.2.1"),
        ("[::ffff:192.0.2.1]:54321", "192.0.2.1"),
    ],
)
def test_an_address_is_read_in_every_way_that_proxies_write_it(text: str, expected: str) -> None:
    assert str(parse_address(text)) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "unknown",
        "localhost",
        "_hidden",
        "12345",
        "1.2.3",
        "1.2.3.4.5",
        "01.2.3.4",
        "256.1.1.1",
        "192.0.2.0/24",
        "2001:db8::/32",
        "[]",
        "[",
        ":80",
        "%eth0",
        "1.2.3.4 5.6.7.8",
        "\u0661.2.3.4",
    ],
)
def test_what_is_no_address_is_none(text: str) -> None:
    assert parse_address(text) is None


@given(st.text(max_size=40))
def test_any_text_is_an_address_or_none(text: str) -> None:
    address = parse_address(text)
    assert address is None or not isinstance(address, IPv6Address) or not address.ipv4_mapped


@given(addresses, st.integers(0, 65535))
def test_a_port_or_brackets_never_make_another_client(
    address: IPv4Address | IPv6Address, port: int
) -> None:
    bare = str(address)
    spelt = f"[{bare}]:{port}" if address.version == 6 else f"{bare}:{port}"
    assert parse_address(spelt) == parse_address(bare) == parse_address(f"[{bare}]")
