"""collector/http/answers.py: the statuses and formats that front-ends depend on."""

import pytest

from collector.http import answers
from collector.http.answers import Answer, NotAllowed
from contract.errors import Reject, Retry


def headers_of(answer: Answer) -> dict[str, str]:
    _, *lines = answer.head.decode().removesuffix("\r\n").split("\r\n")
    return dict(line.split(": ", 1) for line in lines)


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
    assert headers_of(answers.preflight(asked))["Access-Control-Allow-Headers"] == allowed


@pytest.mark.parametrize(
    "answer",
    [answers.unavailable(Retry("redis_full", "Redis at 10.1.2.3 has no memory")), answers.broken()],
)
def test_an_outage_or_a_fault_has_no_details(answer: Answer) -> None:
    assert answer.status in {503, 500}
    assert b"Redis" not in answer.body


def test_another_method_is_405_and_names_the_allowed_ones() -> None:
    response = answers.rejected(NotAllowed(("POST", "OPTIONS")))
    assert response.status == 405
    assert headers_of(response)["Allow"] == "OPTIONS,POST"


def test_the_page_that_asked_may_read_the_answer_and_caches_know_that() -> None:
    lines = answers.allow_origin("https://city.example.org")
    assert lines == (
        b"Access-Control-Allow-Origin: https://city.example.org\r\n"
        b"Access-Control-Allow-Credentials: true\r\nVary: Origin\r\n"
    )


def test_a_page_whose_site_is_refused_may_read_the_refusal() -> None:
    """A script sees an answer that it may not read as no answer, and tries again."""
    response = answers.rejected(Reject(403, "site", "Not one of the sites."))
    assert headers_of(response)["Access-Control-Allow-Origin"] == "*"
    other = answers.rejected(Reject(400, "body", "Not JSON."))
    assert "Access-Control-Allow-Origin" not in headers_of(other)
