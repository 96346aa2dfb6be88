"""collector/http/answers.py: the statuses and formats that front-ends depend on."""

import pytest

from collector.http import answers

ANY = "*, Authorization, Content-Type"
NO_NAMES = ("", " ", ",", "a,", "a b", "a\r\nSet-Cookie: b", "é", "\udcff", "x" * 2049, "a," * 2000)


@pytest.mark.parametrize(
    ("asked", "allowed"),
    [
        *((names, names) for names in ("baggage", "authorization,traceparent", "X-A, x-b,\tx-c")),
        # What is no list of names is never repeated.
        *((wrong, ANY) for wrong in NO_NAMES),
    ],
)
def test_a_preflight_allows_the_names_that_it_asks_for(asked: str, allowed: str) -> None:
    line = f"\r\nAccess-Control-Allow-Headers: {allowed}\r\n"
    assert line.encode() in answers.preflight(asked).head
