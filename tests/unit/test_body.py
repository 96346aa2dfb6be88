"""collector/request/body.py: what a request's body says, and how a wrong one is refused."""

import json
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.request.body import EMPTY, MAX_BYTES, Body, parse_body, parse_session_id
from contract.errors import Reject

ID = "019a3f00-0000-7000-8000-0000000000af"
JSON = "application/json"

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


def refusal(content_type: str, raw: bytes) -> Reject:
    with pytest.raises(Reject) as caught:
        parse_body(content_type, raw)
    return caught.value


def test_the_limit_is_16_kib() -> None:
    assert MAX_BYTES == 16 * 1024


def test_one_byte_order_mark_is_passed_over() -> None:
    assert parse_body("text/plain", b'\xef\xbb\xbf{"token": "a.b.c"}') == Body(token="a.b.c")


@pytest.mark.parametrize(
    "content_type", ["", JSON, "text/plain", "multipart/form-data", "application/octet-stream"]
)
def test_an_empty_body_says_nothing_whatever_its_type(content_type: str) -> None:
    assert parse_body(content_type, b"") == EMPTY == Body(None, None)


@pytest.mark.parametrize("content_type", ["", JSON, "text/plain"])
def test_an_object_is_read_as_json_and_as_what_send_beacon_sends(content_type: str) -> None:
    raw = json.dumps({"id": ID, "token": "a.b.c"}).encode()
    assert parse_body(content_type, raw) == Body(UUID(ID).bytes, "a.b.c")


@pytest.mark.parametrize(
    "content_type",
    [
        "application/x-www-form-urlencoded",
        "multipart/form-data",
        "text/html",
        "application/json-seq",
        "text/plain2",
        "json",
    ],
)
def test_another_content_type_is_415(content_type: str) -> None:
    assert refusal(content_type, b"{}").status == 415


def test_the_content_type_is_refused_before_the_body_is_looked_at() -> None:
    assert refusal("text/html", b"<html>").status == 415


@given(st.dictionaries(st.text().filter(lambda key: key not in ("id", "token")), json_values))
def test_unknown_keys_are_ignored(document: dict[str, object]) -> None:
    assert parse_body(JSON, json.dumps(document).encode()) == EMPTY
    document["id"] = ID
    assert parse_body(JSON, json.dumps(document).encode()) == Body(UUID(ID).bytes)


@pytest.mark.parametrize(
    "raw",
    [
        b"[]",
        b"1",
        b'"text"',
        b"null",
        b"true",
        b"{",
        b"{}{}",
        b"{} x",
        b"{'id': 1}",
        b"id=1",
        b"\xff",
        b'{"token": "\xff"}',
        b"\xef\xbb\xbf",
        b"\xef\xbb\xbf\xef\xbb\xbf{}",
        b" \xef\xbb\xbf{}",
        b"\0",
        b"[" * MAX_BYTES,
        b'{"a":' * (MAX_BYTES // 5),
        b"9" * MAX_BYTES,
        b'{"a":' + b"9" * 16_000 + b",}",
        "{}".encode("utf-16"),
    ],
)
def test_what_is_not_one_json_object_is_400(raw: bytes) -> None:
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


@pytest.mark.parametrize("token", [None, 1, True, ["a.b.c"], {"a": 1}])
def test_a_token_that_is_no_text_is_none(token: object) -> None:
    """On a start it means a visitor, like any malformed token."""
    assert parse_body(JSON, json.dumps({"token": token}).encode()) == EMPTY


@given(st.uuids().filter(lambda uuid: uuid.int != 0))
def test_every_uuid_is_an_id_in_either_case(uuid: UUID) -> None:
    assert parse_session_id(str(uuid)) == uuid.bytes
    assert parse_session_id(str(uuid).upper()) == uuid.bytes


BAD_IDS = [
    "",
    "undefined",
    "null",
    "current",
    ID[:-1],
    ID + "0",
    ID + "\n",
    " " + ID,
    "{" + ID + "}",
    "urn:uuid:" + ID,
    ID.replace("-", ""),
    ID.replace("a", "g"),
    ID.replace("-", "_"),
    ID.replace("0", "\u0660"),  # a digit, but none of hexadecimal notation
    "\0" + ID[1:],
]


@pytest.mark.parametrize("text", BAD_IDS)
def test_what_is_no_uuid_in_its_canonical_form_is_400(text: str) -> None:
    with pytest.raises(Reject) as caught:
        parse_session_id(text)
    assert (caught.value.status, caught.value.reason) == (400, "session_id")
    assert refusal(JSON, json.dumps({"id": text}).encode()).status == 400


@pytest.mark.parametrize("value", [None, 7, True, [ID], {"id": ID}, 1.5])
def test_an_id_that_is_no_text_is_400(value: object) -> None:
    assert refusal(JSON, json.dumps({"id": value}).encode()).status == 400


def test_the_nil_uuid_is_400() -> None:
    """Every broken client would send it, and all their sessions would be one."""
    with pytest.raises(Reject) as caught:
        parse_session_id(str(UUID(int=0)))
    assert caught.value.status == 400


@given(st.text(max_size=40))
def test_a_refusal_never_quotes_the_request(text: str) -> None:
    with pytest.raises(Reject) as caught:
        parse_session_id(f"<{text}>")
    assert caught.value.detail == "The session's id is not a UUID."
