"""collector/request/body.py: what a request's body contains, and how a wrong one is refused."""

import json
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.request.body import EMPTY, MAX_BYTES, Body, parse_body, parse_session_id
from contract.errors import Reject

ID = "019a3f00-0000-7000-8000-0000000000af"
JSON = "application/json"
WHOLE = Body(UUID(ID).bytes, "a.b.c")


def refusal(content_type: str, raw: bytes) -> Reject:
    with pytest.raises(Reject) as caught:
        parse_body(content_type, raw)
    return caught.value


@pytest.mark.parametrize(
    ("content_type", "raw", "expected"),
    [
        # An empty body may have any type.
        *(
            (content_type, b"", EMPTY)
            for content_type in ("", JSON, "text/plain", "multipart/form-data", "text/html")
        ),
        # JSON, and what `sendBeacon` sends.
        *(
            (content_type, json.dumps({"id": ID, "token": "a.b.c"}).encode(), WHOLE)
            for content_type in ("", JSON, "text/plain")
        ),
        # Others' keys are of no concern.
        (JSON, b'{"a": [1], "id": "%b", "": {"b": null}}' % ID.encode(), Body(UUID(ID).bytes)),
        # One byte order mark is skipped.
        ("text/plain", b'\xef\xbb\xbf{"token": "a.b.c"}', Body(token="a.b.c")),
        # A token that is no text is none: its sender is a visitor.
        *(
            (JSON, json.dumps({"token": token}).encode(), EMPTY)
            for token in (None, 1, True, ["a.b.c"], {"a": 1})
        ),
    ],
)
def test_a_body_is_read(content_type: str, raw: bytes, expected: Body) -> None:
    assert parse_body(content_type, raw) == expected


@pytest.mark.parametrize(
    "content_type",
    [
        *("application/x-www-form-urlencoded", "multipart/form-data", "text/html"),
        *("application/json-seq", "text/plain2", "json"),
    ],
)
@pytest.mark.parametrize("raw", [b"{}", b"<html>"])
def test_another_content_type_is_415_whatever_the_body(content_type: str, raw: bytes) -> None:
    assert refusal(content_type, raw).status == 415


@pytest.mark.parametrize(
    "raw",
    [
        *(b"[]", b"1", b'"text"', b"null", b"true", b"{", b"{}{}", b"{} x", b"{'id': 1}", b"id=1"),
        *(b"\xff", b'{"token": "\xff"}', b"\0", "{}".encode("utf-16")),
        *(b"\xef\xbb\xbf", b"\xef\xbb\xbf\xef\xbb\xbf{}", b" \xef\xbb\xbf{}"),
        *(b"[" * MAX_BYTES, b'{"a":' * (MAX_BYTES // 5), b"9" * MAX_BYTES),
        b'{"a":' + b"9" * 16_000 + b",}",
    ],
)
def test_a_body_that_is_not_one_json_object_is_400(raw: bytes) -> None:
    assert refusal(JSON, raw).status == 400


@given(st.binary(min_size=1, max_size=100))
def test_any_bytes_are_a_body_or_400(raw: bytes) -> None:
    """A 5xx is never sent for bad input."""
    status = None
    try:
        parse_body("text/plain", raw)
    except Reject as reject:
        status = reject.status
    assert status in (None, 400)


@given(st.uuids().filter(lambda uuid: uuid.int != 0))
def test_every_uuid_is_an_id_in_either_case(uuid: UUID) -> None:
    assert parse_session_id(str(uuid)) == uuid.bytes
    assert parse_session_id(str(uuid).upper()) == uuid.bytes


NIL = "00000000-0000-0000-0000-000000000000"


@pytest.mark.parametrize(
    "text",
    [
        *("", "undefined", "null", "current", ID[:-1], ID + "0", ID + "\n", " " + ID),
        *("{" + ID + "}", "urn:uuid:" + ID, ID.replace("-", ""), ID.replace("-", "_")),
        *(ID.replace("a", "g"), "\0" + ID[1:]),
        ID.replace("0", "\u0660"),  # a digit, but not in hexadecimal notation
        NIL,  # every broken client would send it, and all their sessions would be one
    ],
)
def test_an_id_that_is_no_canonical_uuid_is_400(text: str) -> None:
    with pytest.raises(Reject) as caught:
        parse_session_id(text)
    assert (caught.value.status, caught.value.reason) == (400, "session_id")
    its = {"The nil UUID is not a session's id.", "The session's id is no UUID of 36 characters."}
    assert caught.value.detail in its, "it quotes nothing"
    assert refusal(JSON, json.dumps({"id": text}).encode()).status == 400
