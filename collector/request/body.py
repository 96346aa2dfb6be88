"""A request's body: the session's id and the token."""

import json
from typing import NamedTuple

import msgspec

from contract.errors import Reject

MAX_BYTES = 16_384
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"  # some clients send it before UTF-8 (RFC 8259, section 8.1)
_CONTENT_TYPES = frozenset(("", "application/json", "text/plain"))
_NO_SESSION = bytes(16)


class Body(NamedTuple):
    """The known keys: the client's id of the session (16 bytes), and a token."""

    id: bytes | None = None
    token: str | None = None


EMPTY = Body()
_DECODER = msgspec.json.Decoder()


def parse_body(content_type: str, raw: bytes) -> Body:
    """The body's known keys. All others are ignored.

    Raises:
        Reject: 415, another content type; 400, it is not a JSON object, or its id is not a UUID.
    """
    if not raw:
        return EMPTY
    media_type = content_type
    if media_type not in _CONTENT_TYPES:
        media_type = content_type.partition(";")[0].strip().lower()
    if media_type not in _CONTENT_TYPES:
        raise Reject(415, "content_type", "Send the body as application/json or text/plain.")
    document = _parse_json(raw.removeprefix(_BYTE_ORDER_MARK))
    if not isinstance(document, dict):
        raise Reject(400, "body", "The body is not a JSON object.")
    token = document.get("token")
    return Body(
        parse_session_id(document["id"]) if "id" in document else None,
        token if isinstance(token, str) else None,
    )


def _parse_json(raw: bytes) -> object:
    try:
        return _DECODER.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        pass  # msgspec refuses some valid JSON: a lone surrogate, a number that no float can hold
    try:
        # Thousands of brackets raise RecursionError. UnicodeDecodeError is a ValueError.
        return json.loads(raw.decode("utf-8"), parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        raise Reject(400, "body", "The body is not valid JSON in UTF-8.") from None


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def parse_session_id(text: object) -> bytes:
    """A session's id as 16 bytes.

    Raises:
        Reject: 400, it is not a UUID in its canonical text form, or it is the nil UUID, which many
            broken clients would share.
    """
    if isinstance(text, str) and len(text) == 36 and text[8:24:5] == "----":
        # `fromhex` also accepts white space, but then the result is shorter than 16 bytes.
        try:
            session_id = bytes.fromhex(text.replace("-", ""))
        except ValueError:
            session_id = b""
    else:
        session_id = b""
    if len(session_id) != len(_NO_SESSION):
        raise Reject(400, "session_id", "The session's id is no UUID of 36 characters.")
    if session_id == _NO_SESSION:
        raise Reject(400, "session_id", "The nil UUID is not a session's id.")
    return session_id
