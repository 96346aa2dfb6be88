"""collector/http/answers.py: the statuses and formats that front-ends depend on."""

import json
from uuid import UUID

import pytest

from collector.buffer.pending import RETRY_AFTER_SECONDS, WAIT_SECONDS
from collector.http import answers
from collector.http.answers import Answer, NotAllowed
from contract.errors import Reject, Retry

ID = UUID("019a3f00-0000-7000-8000-00000000000f")


def headers_of(answer: Answer) -> dict[str, str]:
    """The headers, once the status line is right."""
    first, *lines = answer.head.decode().removesuffix("\r\n").split("\r\n")
    assert first.startswith(f"HTTP/1.1 {answer.status} ")
    headers = dict(line.split(": ", 1) for line in lines)
    assert len(headers) == len(lines)
    length = None if answer.status == 204 else str(len(answer.body))
    assert headers.pop("Content-Length", None) == length
    return headers


def only_error(response: Answer) -> dict[str, str]:
    assert headers_of(response)["Content-Type"] == "application/json; charset=utf-8"
    document = json.loads(response.body)
    assert list(document) == ["errors"]
    (error,) = document["errors"]
    assert sorted(error) == ["detail", "status", "title"]
    assert error["status"] == str(response.status)
    assert isinstance(error["detail"], str)
    assert error["detail"]
    return {str(key): str(value) for key, value in error.items()}


def test_a_stored_session_is_201_with_its_id() -> None:
    response = answers.stored_session(ID.bytes)
    assert response.status == 201
    assert headers_of(response) == {"Content-Type": "application/json; charset=utf-8"}
    assert json.loads(response.body) == {"data": {"id": str(ID), "type": "session"}}


def test_an_upgrade_is_202_and_what_is_ignored_204_without_a_body() -> None:
    for answer, status in ((answers.ACCEPTED_UPGRADE, 202), (answers.IGNORED, 204)):
        assert (answer.status, answer.body) == (status, b"")
        assert headers_of(answer) == {}


def test_a_preflight_allows_what_front_ends_send() -> None:
    response = answers.preflight(None)
    assert (response.status, response.body) == (204, b"")
    allowed = headers_of(response)["Access-Control-Allow-Methods"].split(", ")
    assert {"POST", "PATCH"} <= set(allowed)
    headers = headers_of(response)["Access-Control-Allow-Headers"].lower().split(", ")
    assert {"authorization", "content-type", "*"} <= set(headers)
    assert int(headers_of(response)["Access-Control-Max-Age"]) > 0


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
    ("status", "title"),
    [
        (400, "Bad Request"),
        (401, "Unauthorized"),
        (403, "Forbidden"),
        (413, "Request Entity Too Large"),
        (415, "Unsupported Media Type"),
    ],
)
def test_a_rejection_has_its_status_and_its_detail_unchanged(status: int, title: str) -> None:
    detail = 'Do it "differently", a \\ and a\nline.'
    response = answers.rejected(Reject(status, "reason", detail))
    assert response.status == status
    error = only_error(response)
    assert error["detail"] == detail
    # Newer releases of Python call 413 "Content Too Large", as RFC 9110 does.
    assert error["title"] in {title, "Content Too Large"}


def test_an_outage_is_503_with_the_time_to_retry_after_and_without_details() -> None:
    response = answers.unavailable(Retry("redis_full", "Redis at 10.1.2.3 has no memory"))
    assert response.status == 503
    assert 0 < WAIT_SECONDS <= 10, "a load balancer waits longer"
    headers = headers_of(response)
    assert int(headers["Retry-After"]) == RETRY_AFTER_SECONDS > 0
    assert headers["Access-Control-Expose-Headers"] == "Retry-After", "for other origins"
    assert "10.1.2.3" not in only_error(response)["detail"]
    assert "Redis" not in only_error(response)["detail"]


def test_a_fault_is_500_without_details() -> None:
    response = answers.broken()
    assert response.status == 500
    assert only_error(response)["title"] == "Internal Server Error"


def test_another_method_is_405_and_names_the_allowed_ones() -> None:
    response = answers.rejected(NotAllowed(("POST", "OPTIONS")))
    assert response.status == 405
    assert headers_of(response)["Allow"] == "OPTIONS,POST"
    only_error(response)


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
