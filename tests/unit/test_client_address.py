"""collector/request/client_address.py: the client's address, which the client can't forge."""

from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict

from collector.request.client_address import HOPS, Address, TrustedProxies, parse_address
from collector.request.headers import Headers

NETWORKS = [ip_network("10.0.0.0/8"), ip_network("192.0.2.7/32"), ip_network("2001:db8:1::/48")]
PROXIES = TrustedProxies(NETWORKS)
PROXY, CLIENT, STRANGER = "10.0.0.1", "198.51.100.1", "203.0.113.9"
FORGED = ("X-Forwarded-For", "1.1.1.1")
GARBAGE = ("unknown", "_hidden", "1.2.3", "é", "\udcff", "\0")
HOPS_BEFORE = ", ".join(f"10.0.1.{n}" for n in range(63))

addresses = st.ip_addresses()
clients = addresses.map(
    lambda address: ip_address(parse_address(str(address)) or address.packed)
).filter(lambda address: not PROXIES.trusts(address.packed))
trusted = st.integers(0, 2**24 - 1).map(lambda low: ip_address((10 << 24) + low))
# A client may write anything, also what looks like a proxy's work.
entries = (
    addresses.map(str)
    | trusted.map(str)
    | st.text(st.characters(exclude_characters="\r\n"), max_size=20)
    | st.sampled_from(["", ",", ",,", "unknown", '"', "[", "10.0.0.1:80", "::ffff:10.0.0.1", " "])
)


def lines(name: str, *values: str) -> CIMultiDict[str]:
    return CIMultiDict((name, value) for value in values)


def client_of(headers: Headers, peer: str = PROXY, proxies: TrustedProxies = PROXIES) -> str:
    address = proxies.client(proxies.peer(peer), headers)
    assert address is not None
    return str(ip_address(address))


def client(peer: str, *headers: str, proxies: TrustedProxies = PROXIES) -> str:
    return client_of(lines("X-Forwarded-For", *headers), peer, proxies)


@pytest.mark.parametrize(
    ("peer", "headers", "expected"),
    [
        # A peer that is not trusted.
        ("203.0.113.9", ["198.51.100.1"], "203.0.113.9"),
        # One proxy.
        (PROXY, ["198.51.100.1"], "198.51.100.1"),
        ("192.0.2.7", ["198.51.100.1"], "198.51.100.1"),
        ("2001:db8:1::5", ["2001:db8:2::9"], "2001:db8:2::9"),
        # Several: the rightmost address that is no trusted proxy's.
        (PROXY, ["198.51.100.1, 203.0.113.9, 10.1.1.1, 192.0.2.7"], "203.0.113.9"),
        (PROXY, ["10.0.0.9, 198.51.100.1"], "198.51.100.1"),
        (PROXY, ["unknown, 198.51.100.1, 10.0.0.2"], "198.51.100.1"),
        # Several header lines are one list.
        (PROXY, ["1.1.1.1", "198.51.100.1", "10.0.0.2"], "198.51.100.1"),
        (PROXY, ["1.1.1.1, 2.2.2.2", "10.0.0.3, 10.0.0.2"], "2.2.2.2"),
        # Garbage stands for the proxy that wrote it. Otherwise a client could hide behind it and
        # choose the entry on its left.
        *((PROXY, [f"1.1.1.1, {text}"], PROXY) for text in GARBAGE),
        *((PROXY, [f"1.1.1.1, {text}, 10.0.0.2"], "10.0.0.2") for text in GARBAGE),
        # A proxy that names nobody is itself the client.
        *((PROXY, headers, PROXY) for headers in ([], [""], [" , ,"], ["", ""])),
        # All are trusted: the first is the client.
        (PROXY, ["10.0.0.3, 10.0.0.2"], "10.0.0.3"),
        # Empty entries are skipped.
        (PROXY, ["1.1.1.1, 198.51.100.1, , 10.0.0.2,"], "198.51.100.1"),
        # 64 entries are read, from the right.
        (PROXY, [", ".join([*["1.1.1.1"] * 200, "198.51.100.1"])], "198.51.100.1"),
        (PROXY, [f"198.51.100.1, {HOPS_BEFORE}"], "198.51.100.1"),
        (PROXY, [f"198.51.100.1, 10.0.2.1, {HOPS_BEFORE}"], "10.0.2.1"),
        # A dual-stack proxy writes IPv4 addresses, a client's or a proxy's, in both forms.
        (PROXY, ["1.1.1.1, ::ffff:198.51.100.1"], "198.51.100.1"),
        (PROXY, ["198.51.100.1, ::ffff:10.0.0.2"], "198.51.100.1"),
        (PROXY, ["198.51.100.1, [::ffff:10.0.0.2]:443"], "198.51.100.1"),
    ],
)
def test_the_client_is_the_rightmost_address_that_no_trusted_proxy_has(
    peer: str, headers: list[str], expected: str
) -> None:
    assert client(peer, *headers) == expected


def test_without_proxies_the_peer_is_the_client() -> None:
    assert client(PROXY, CLIENT, proxies=TrustedProxies([])) == PROXY


@given(clients, st.lists(trusted, max_size=4), st.lists(entries, max_size=6), st.booleans())
def test_a_client_can_not_change_the_address_that_the_proxy_saw(
    address: IPv4Address | IPv6Address,
    hops: list[IPv4Address | IPv6Address],
    written: list[str],
    own_line: bool,  # noqa: FBT001 - hypothesis gives it
) -> None:
    """The proxies append to the client's last line, or add a line of their own."""
    seen = ", ".join(map(str, [address, *hops]))
    if written and not own_line:
        seen = f"{written.pop()}, {seen}"
    assert client_of(lines("X-Forwarded-For", *written, seen)) == str(address)


@given(addresses, st.lists(entries, max_size=8))
def test_any_list_gives_an_address_and_never_an_error(
    peer: IPv4Address | IPv6Address, headers: list[str]
) -> None:
    for name in ("X-Forwarded-For", "Forwarded"):
        assert client_of(lines(name, *headers), str(peer))


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
    assert parse_address(text) == ip_address(expected).packed


@pytest.mark.parametrize(
    "text",
    [
        *("", " ", "unknown", "localhost", "_hidden", "12345", "1.2.3", "1.2.3.4.5", "01.2.3.4"),
        *("256.1.1.1", "192.0.2.0/24", "2001:db8::/32", "[]", "[", ":80", "%eth0"),
        *("1.2.3.4 5.6.7.8", "\u0661.2.3.4"),
    ],
)
def test_a_text_that_is_no_address_is_none(text: str) -> None:
    assert parse_address(text) is None


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (["for=198.51.100.1"], "198.51.100.1"),
        (['for=1.1.1.1, for="198.51.100.1:4711";proto=https'], "198.51.100.1"),
        (["For=198.51.100.1, for=10.0.0.2"], "198.51.100.1"),
        (["for=1.1.1.1", "for=198.51.100.1", "for=10.0.0.2"], "198.51.100.1"),
        (['for="[2001:db8:2::9]:80"'], "2001:db8:2::9"),
        (['for="[::ffff:198.51.100.1]"'], "198.51.100.1"),
        ([", ".join([*["for=1.1.1.1"] * 200, "for=198.51.100.1"])], "198.51.100.1"),
        # RFC 7239: a comma or semicolon in quotes is part of a value.
        (['for=198.51.100.1;host="a,b;for=1.1.1.1"'], "198.51.100.1"),
        ([r'for=198.51.100.1;host="a\",for=1.1.1.1"'], "198.51.100.1"),
        (["for=1.1.1.1, ,for=198.51.100.1;"], "198.51.100.1"),
        # A proxy that does not say whom it saw stands for the client.
        (["for=1.1.1.1, for=unknown, for=10.0.0.2"], "10.0.0.2"),
        *(
            ([f"for=1.1.1.1, {node}"], PROXY)
            for node in (
                *("for=unknown", "for=_hidden", 'for="_SEVKISEK:80"', "for=1.2.3", "by=a"),
                *("for", "for=", "for=a b", 'for="a"b', "for= a", "1.2.3.4"),
            )
        ),
    ],
)
def test_forwarded_counts_where_there_is_no_x_forwarded_for(
    values: list[str], expected: str
) -> None:
    assert client_of(lines("Forwarded", *values)) == expected


@pytest.mark.parametrize(
    "written",
    ['for="', 'for=9.9.9.9, x="', 'for="9.9.9.9', "for==", "for=9.9.9.9 x", '"', "=", "é="],
)
def test_a_quote_that_the_client_leaves_open_does_not_hide_the_proxys_entry(written: str) -> None:
    """The worst that a client can do is to count as the proxy."""
    seen = 'for=198.51.100.1;host="a"'
    assert client_of(lines("Forwarded", written, seen)) == "198.51.100.1"
    assert client_of(lines("Forwarded", f"{written}, {seen}")) == PROXY


@given(clients, st.lists(entries, max_size=6))
def test_a_client_can_not_change_the_proxys_own_forwarded_line(
    address: IPv4Address | IPv6Address, written: list[str]
) -> None:
    seen = f'for="[{address}]"' if address.version == 6 else f"for={address}"
    assert client_of(lines("Forwarded", *written, seen)) == str(address)


@pytest.mark.parametrize(
    ("setting", "headers", "peer", "expected"),
    [
        # The header that the setting names is the only one that counts.
        ("CF-Connecting-IP", [("cf-connecting-ip", CLIENT), FORGED], PROXY, CLIENT),
        ("X-Real-IP", [("X-Real-IP", "1.1.1.1")], STRANGER, STRANGER),
        ("X-Real-IP", [FORGED], PROXY, PROXY),
        # The proxy's is the last.
        ("X-Real-IP", [("X-Real-IP", "1.1.1.1"), ("X-Real-IP", CLIENT)], PROXY, CLIENT),
        # Without one address it names nobody.
        *(
            ("X-Real-IP", [("X-Real-IP", value), FORGED], PROXY, PROXY)
            for value in ("", "unknown", "1.1.1.1, 2.2.2.2")
        ),
        # It may hold a list.
        ("Forwarded", [("Forwarded", f"for={CLIENT}"), FORGED], PROXY, CLIENT),
        ("X-Forwarded-For", [("X-Forwarded-For", CLIENT), ("Forwarded", "for=a")], PROXY, CLIENT),
        ("X-Forwarded-For", [("Forwarded", "for=1.1.1.1")], PROXY, PROXY),
        # Without the setting.
        ("", [("X-Real-IP", "1.1.1.1")], PROXY, PROXY),
        ("", [("X-Real-IP", "1.1.1.1"), ("X-Forwarded-For", CLIENT)], PROXY, CLIENT),
        ("", [("Forwarded", "for=1.1.1.1"), ("X-Forwarded-For", CLIENT)], PROXY, CLIENT),
        ("", [("Forwarded", "for=1.1.1.1")], STRANGER, STRANGER),
    ],
)
def test_only_the_header_that_the_setting_names_counts_or_else_the_forwarded_ones(
    setting: str, headers: list[tuple[str, str]], peer: str, expected: str
) -> None:
    assert client_of(CIMultiDict(headers), peer, TrustedProxies(NETWORKS, setting)) == expected


@pytest.mark.parametrize("entry", ["10.0.0.1", "10.0.0.1, ", "", " ", "for=10.0.0.1", "for=a;b=c"])
@pytest.mark.parametrize("name", ["X-Forwarded-For", "Forwarded"])
def test_a_chain_of_tens_of_thousands_is_as_cheap_as_one_of_64(entry: str, name: str) -> None:
    """The test counts the entries that are read. It measures no time."""
    read = []

    class Counting(TrustedProxies):
        def trusts(self, address: Address) -> bool:
            read.append(address)
            return super().trusts(address)

    chain = lines(name, ",".join([entry] * 54_000))
    found = client_of(chain, "10.0.0.9", Counting(NETWORKS))
    assert PROXIES.trusts(ip_address(found).packed)
    assert len(read) <= HOPS + 1


def test_a_peer_without_an_address_is_no_client() -> None:
    for text in (None, "", "a socket's path"):
        assert PROXIES.client(PROXIES.peer(text), lines("X-Forwarded-For", "1.1.1.1")) is None


def test_no_peer_is_cached_except_a_proxy() -> None:
    proxies = TrustedProxies(NETWORKS)
    assert client(STRANGER, "1.1.1.1", proxies=proxies) == STRANGER
    assert client(PROXY, CLIENT, proxies=proxies) == CLIENT
    kept = repr(vars(proxies))
    assert PROXY in kept
    assert STRANGER not in kept
    assert CLIENT not in kept
