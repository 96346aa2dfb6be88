"""collector/request/site.py: which site a request belongs to, and which sites are counted."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.request.site import SitePolicy, host_of_origin
from contract.errors import Reject
from contract.record import SITE_MAX_BYTES

ANY = SitePolicy(["*"])
NO_ORIGINS = ("https://user@host.example", "https://", "file://", "nonsense", "https://[", "//")


def site(
    origin: str | None = None, forwarded: str | None = None, host: str | None = None
) -> str | None:
    """The site where every site is counted; None for a refusal."""
    try:
        return ANY.site_of(origin, forwarded, host)
    except Reject:
        return None


@pytest.mark.parametrize(
    ("origin", "forwarded", "host", "expected"),
    [
        ("https://origin.example", "proxy.example", "host.example", "origin.example"),
        *((absent, None, "host.example", "host.example") for absent in (None, "", "null")),
        *((absent, "proxy.example", "a", "proxy.example") for absent in (None, "", "null")),
        # Of several proxies' values the first is what the browser asked for.
        (None, "city.example.org, inner.internal", "inner", "city.example.org"),
        (None, None, None, None),
        ("null", "", "", None),
        # A page that names its origin wrongly is not taken for the collector's own site.
        *((wrong, "proxy.example", "host.example", None) for wrong in NO_ORIGINS),
    ],
)
def test_the_site_is_the_origins_then_the_proxys_then_the_hosts(
    origin: str | None, forwarded: str | None, host: str | None, expected: str | None
) -> None:
    assert site(origin, forwarded, host) == expected


@pytest.mark.parametrize("origin", ["", "null", *NO_ORIGINS])
def test_what_is_no_origin_may_read_no_answer(origin: str) -> None:
    assert not ANY.allows_origin(origin)


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("City.EXAMPLE.org.:3000", "city.example.org"),
        ("city.example.org:", "city.example.org"),
        *(("192.0.2.7:8443", "192.0.2.7"), ("a_b.example.org", "a_b.example.org")),
        *(("[2001:DB8::1]:8443", "[2001:db8::1]"), ("[::1]", "[::1]")),
        ("xn--bcher-kva.example", "xn--bcher-kva.example"),
        ("bücher.example:8080", "xn--bcher-kva.example"),
        ("BÜCHER.Example.", "xn--bcher-kva.example"),
        # Browsers follow UTS 46. Python's own codec, of 2003, makes `ss` of it.
        ("straße.example", "xn--strae-oqa.example"),
        ("бюро.example", "xn--90a0af9c.example"),
        *((host, "xn--r8jz45g.example") for host in ("例え.example", "例え。example")),
        ("cit\uff59.example", "city.example"),
        *[(".".join(["a" * 49] * 5) + ".org",) * 2],  # the longest
    ],
)
def test_a_site_is_read_alike_from_every_header(written: str, expected: str) -> None:
    """In lower case and ASCII, without port or final dot."""
    assert host_of_origin(f"https://{written}") == expected
    assert site(f"https://{written}") == site(f"capacitor://{written}") == expected
    assert site(forwarded=f" {written}") == site(host=f"{written} ") == expected


@pytest.mark.parametrize(
    "host",
    [
        *(".", ".example.org", "-a.example.org", "a.example.org-", "a.example.org..", "*.a.org"),
        *("a b.example.org", "a/b", "a\\b", "user@a.example.org", "a.example.org\nb", "a\0.org"),
        *("a.example.org:80:80", "a.example.org:http", "[::1", "::1", "[]"),
        *("é..example.org", "ex\udcffample.org", "é" * 64 + ".example.org"),
        "a" * (SITE_MAX_BYTES + 1),
        # IDNA refuses these.
        *("☃..example", "\u200d", "xn--é.example", "-ü.example"),
    ],
)
def test_a_text_that_is_no_host_is_no_site(host: str) -> None:
    assert site(host=host) is None


@given(
    st.text(max_size=30) | st.text("abc.:-[]@/é%\t ", max_size=30),
    st.sampled_from(["", "https://", "//"]),
)
def test_any_header_gives_a_site_that_fits_the_record_or_is_refused(text: str, prefix: str) -> None:
    """It is lower-case ASCII without spaces or control characters. Else 403, and no other error."""
    for found in (site(origin=prefix + text), site(forwarded=text), site(host=text)):
        if found is not None:
            assert found.isascii()
            assert found == found.lower()
            assert found.isprintable()
            assert " " not in found
            assert 0 < len(found) <= SITE_MAX_BYTES


@pytest.mark.parametrize(
    ("patterns", "allowed", "refused"),
    [
        ("*", "anything.example", ""),
        (
            "City.example.org",
            "city.example.org",
            "other.example a.city.example.org evilcity.example.org city.example.org.evil.example",
        ),
        (
            "*.Example.org",
            "city.example.org a.b.example.org",
            "example.org evilexample.org city.example.org.evil.example example.orgs",
        ),
        ("*.example.org example.org", "example.org", ""),
        ("a.example *.b.example", "c.b.example", "c.example"),
        ("", "", "city.example.org"),
        # A pattern is normalised like a site.
        ("BÜCHER.Example. *.bücher.example", "xn--bcher-kva.example a.xn--bcher-kva.example", ""),
        ("straße.example 例え。example", "xn--strae-oqa.example xn--r8jz45g.example", ""),
        ("city.example.org.", "city.example.org", ""),
    ],
)
def test_only_the_sites_of_the_list_are_counted_and_may_read_the_answers(
    patterns: str, allowed: str, refused: str
) -> None:
    policy = SitePolicy(patterns.split())
    for host in allowed.split():
        assert policy.allows(host)
        assert policy.allows_origin(f"https://{host.upper()}:8443")
        assert policy.site_of(f"https://{host}", None, None) == host
    for host in refused.split():
        assert not policy.allows(host)
        assert not policy.allows_origin(f"https://{host}")
        with pytest.raises(Reject) as caught:
            policy.site_of(None, None, host)
        assert (caught.value.status, caught.value.reason) == (403, "site")


@pytest.mark.parametrize("host", ["a" * 9000, "https://" + "a." * 5000 + "example"])
def test_a_header_that_is_too_long_for_a_host_is_no_site(host: str) -> None:
    assert site(host) is None
    assert site(host=host) is None
    assert site(forwarded=host) is None
    assert not ANY.allows_origin(host)


def test_cached_sites_are_bounded() -> None:
    policy = SitePolicy(["*"])
    for n in range(3000):
        policy.site_of(f"https://{n}.example", None, None)
        policy.site_of(None, None, f"{n}.example")
    for remembered in (policy._site_of_origin, policy._site_of_host):
        assert remembered.cache_info().currsize <= 1024
