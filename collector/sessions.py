"""The two endpoints that store something: each turns a request into a record in a stream."""

import asyncio
import os
from collections.abc import Callable
from functools import partial

from collector.buffer.append import Appender
from collector.buffer.pending import WAIT_SECONDS
from collector.examination import Examination, Examined
from collector.http import answers
from collector.http.routes import Request, Respond
from collector.request.body import parse_session_id
from collector.request.caller import User
from contract.collector_metrics import CollectorMetrics
from contract.errors import Reject, Retry
from contract.record import SessionUpgraded, encode, encode_started
from salt.month import MonthlySalt
from salt.term import Salt

CURRENT = "current"

Append = Callable[[Examined, Respond, Salt, int], None]
"""Appends the record of an examined request, with the salt and the time in microseconds."""


class Sessions:
    """Both endpoints raise the errors of the request's steps: Reject, Ignore, Retry."""

    def __init__(
        self,
        examination: Examination,
        salt: MonthlySalt,
        appender: Appender,
        metrics: CollectorMetrics,
    ) -> None:
        self._examination = examination
        self._salt = salt
        self._appender = appender
        self._accepted_session = metrics.accepted.labels("session")
        self._accepted_upgrade = metrics.accepted.labels("upgrade")
        self._waiting: set[asyncio.Task[None]] = set()

    def start(self, request: Request, respond: Respond) -> None:
        """`POST /web_api/v1/sessions`."""
        examined = self._examination.examine(request)
        # An upgrade creates no site: it only finds a session of its own site.
        self._examination.new_sites.admit(examined.site)
        self._with_salt(self._append_start, examined, respond)

    def upgrade(self, request: Request, respond: Respond) -> None:
        """`PATCH` or `POST /web_api/v1/sessions/{id}/upgrade`."""
        session_id = None if request.named == CURRENT else parse_session_id(request.named)
        examined = self._examination.examine(request)
        user = examined.user
        if user is None:
            raise Reject(401, "token", "An upgrade needs a valid token of the user who signed in.")
        self._with_salt(partial(self._append_upgrade, session_id, user), examined, respond)

    def _append_start(self, examined: Examined, respond: Respond, salt: Salt, at_us: int) -> None:
        session_id = examined.body.id or _uuid7(at_us)
        user, site = examined.user, examined.site
        if user is None:
            hash_, role = _visitor_hash(salt, examined), None
        else:
            hash_, role = salt.hasher.user(site, user.id), user.role
        record = encode_started(session_id, salt.month, at_us, site, hash_, role)

        def on_result(error: Retry | None) -> None:
            if error is None:
                self._accepted_session.inc()
            respond(error or answers.stored_session(session_id))

        self._appender.append(session_id, record, on_result)

    def _append_upgrade(
        self,
        session_id: bytes | None,
        user: User,
        examined: Examined,
        respond: Respond,
        salt: Salt,
        at_us: int,
    ) -> None:
        visitor = _visitor_hash(salt, examined)
        user_hash = salt.hasher.user(examined.site, user.id)
        is_visitors = self._examination.is_visitors_address(examined.address)
        event = SessionUpgraded(
            _uuid7(at_us),
            session_id,
            visitor if session_id is None else None,
            salt.month,
            at_us,
            examined.site,
            user_hash,
            user.role,
            salt.hasher.sign_in(visitor, user_hash) if is_visitors else None,
        )

        def on_result(error: Retry | None) -> None:
            if error is None:
                self._accepted_upgrade.inc()
            respond(error or answers.ACCEPTED_UPGRADE)

        self._appender.append(session_id or visitor, encode(event), on_result)

    def _with_salt(self, append: Append, examined: Examined, respond: Respond) -> None:
        """Calls `append` with the salt and the time, as soon as Redis has given the salt."""
        known = self._salt.now()
        if known is not None:
            append(examined, respond, *known)
            return

        async def wait() -> None:
            try:
                async with asyncio.timeout(WAIT_SECONDS):
                    salt = await self._salt.get()
                append(examined, respond, *salt)
            except TimeoutError:
                respond(Retry("salt", "Redis did not give the salt in time"))
            except Exception as error:  # noqa: BLE001 - each becomes an answer
                respond(error)

        task = asyncio.get_running_loop().create_task(wait())
        self._waiting.add(task)  # the event loop keeps no task alive
        task.add_done_callback(self._waiting.discard)


def _visitor_hash(salt: Salt, examined: Examined) -> bytes:
    return salt.hasher.visitor(examined.site, examined.network, examined.user_agent)


def _uuid7(at_us: int) -> bytes:
    """A UUIDv7 (RFC 9562, section 5.7): ids have the order in which they were made."""
    milliseconds = at_us // 1000
    tail = bytearray(os.urandom(10))
    tail[0] = tail[0] & 0x0F | 0x70
    tail[2] = tail[2] & 0x3F | 0x80
    return milliseconds.to_bytes(6, "big") + tail
