"""Step 1: what a request's body says."""

import json
import re
import uuid
from dataclasses import dataclass

from contract.errors import Reject

MAX_BYTES = 4096
_CONTENT_TYPES = frozenset(("", "application/json", "text/plain"))
_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
_NO_SESSION = bytes(16)


@dataclass(frozen=True, slots=True)
class Body:
    """The known keys: the client's id for the session (16 bytes) and a token, where given."""

    id: bytes | None = None
    token: str | None = None


EMPTY = Body()


def parse_body(content_type: str, raw: bytes) -> Body:
    """The body's known keys; every other is ignored.

    Args:
        content_type: the media type without parameters, lower case, empty where absent.
        raw: the bytes received, at most `MAX_BYTES`.

    Raises:
        Reject: 415 another content type, 400 not one JSON object or its id not a UUID.
    """
    if not raw:
        return EMPTY
    if content_type not in _CONTENT_TYPES:
        raise Reject(415, "content_type", "Send the body as application/json or text/plain.")
    try:
        # UnicodeDecodeError is a ValueError; RecursionError comes from thousands of brackets.
        document = json.loads(raw.decode("utf-8"), parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        raise Reject(400, "body", "The body is not valid JSON in UTF-8.") from None
    if not isinstance(document, dict):
        raise Reject(400, "body", "The body is not a JSON object.")
    token = document.get("token")
    return Body(
        id=parse_session_id(document["id"]) if "id" in document else None,
        token=token if isinstance(token, str) else None,
    )


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is JavaScript's, not JSON's")


def parse_session_id(text: object) -> bytes:
    """A session's id in its 16 bytes.

    Raises:
        Reject: 400, it is not a UUID in its canonical text form, or is the nil UUID, which every
            broken client would share.
    """
    if not isinstance(text, str) or not _UUID.fullmatch(text):
        raise Reject(400, "session_id", "The session's id is not a UUID.")
    session_id = uuid.UUID(text).bytes
    if session_id == _NO_SESSION:
        raise Reject(400, "session_id", "The nil UUID names no session.")
    return session_id
