"""collector/request/forwarded.py: RFC 7239, and malformed lines."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.request.forwarded import forwarded_for


@pytest.mark.parametrize(
    ("line", "nodes"),
    [
        # The examples of RFC 7239, section 4.
        ('for="_gazonk"', ["_gazonk"]),
        ('For="[2001:db8:cafe::17]:4711"', ["[2001:db8:cafe::17]:4711"]),
        ("for=192.0.2.60;proto=http;by=203.0.113.43", ["192.0.2.60"]),
        ("for=192.0.2.43, for=198.51.100.17", ["192.0.2.43", "198.51.100.17"]),
        # A proxy that does not say whom it saw.
        ("for=192.0.2.43, by=198.51.100.17", ["192.0.2.43", None]),
        ("proto=https", [None]),
        # A comma or semicolon in quotes is part of a value.
        ('for=192.0.2.43;host="a,b;for=1.1.1.1"', ["192.0.2.43"]),
        (r'for=192.0.2.43;host="a\",for=1.1.1.1"', ["192.0.2.43"]),
        # Empty elements are allowed in lists (RFC 9110, section 5.6.1).
        ("for=192.0.2.43, ,for=198.51.100.17;", ["192.0.2.43", "198.51.100.17"]),
        ("", []),
        (" , ", []),
    ],
)
def test_each_element_names_its_client(line: str, nodes: list[str | None]) -> None:
    assert forwarded_for(line) == nodes


@pytest.mark.parametrize(
    "line",
    ["192.0.2.43", "for", "for=", 'for="', "for=a b", 'for="a"b', "for= a", "for=[::1]=,x y"],
)
def test_a_malformed_line_names_nobody(line: str) -> None:
    assert forwarded_for(line) == [None]


@given(st.text('for=,; \\"1.2:[]', max_size=40) | st.text(max_size=20))
def test_any_line_gives_nodes_and_never_an_error(line: str) -> None:
    assert all(node is None or node in line for node in forwarded_for(line))
