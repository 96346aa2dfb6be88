"""The two endpoints: each has a request examined, makes its record, and appends it."""

import asyncio
import os
from collections.abc import Callable
from functools import partial

from collector.buffer.append import Appender
from collector.buffer.pending import WAIT_SECONDS
from collector.examination import Examination, Examined
from collector.http import answers
from collector.http.request import Answered, Request
from collector.request.body import parse_session_id
from collector.request.caller import User
from collector.request.new_sites import NewSites
from contract.collector_metrics import CollectorMetrics
from contract.errors import Reject, Retry
from contract.identity import network_of
from contract.record import SessionUpgraded, encode, encode_started
from salt.month import MonthlySalt
from salt.term import Salt

CURRENT = "current"


class Sessions:
    """The two endpoints."""

    def __init__(
        self,
        examination: Examination,
        new_sites: NewSites,
        salt: MonthlySalt,
        appender: Appender,
        metrics: CollectorMetrics,
    ) -> None:
        self._examination = examination
        self._new_sites = new_sites
        self._salt = salt
        self._appender = appender
        self._accepted_session = metrics.accepted.labels("session")
        self._accepted_upgrade = metrics.accepted.labels("upgrade")
        self._asking: set[asyncio.Task[None]] = set()

    def start(self, request: Request, answered: Answered) -> None:
        """`POST /web_api/v1/sessions`.

        Raises:
            Reject, Ignore, Retry: as the steps do.
        """
        asked = self._examination.examine(request)
        # An upgrade creates no site: it only finds a session of its own site.
        self._new_sites.admit(asked.site)
        valid = self._salt.now()
        if valid is None:
            self._when_known(partial(self._append_start, asked, answered), answered)
        else:
            self._append_start(asked, answered, *valid)

    def upgrade(self, request: Request, answered: Answered) -> None:
        """`PATCH` or `POST /web_api/v1/sessions/{id}/upgrade`.

        Raises:
            Reject, Ignore, Retry: as the steps do.
        """
        session_id = None if request.named == CURRENT else parse_session_id(request.named)
        asked = self._examination.examine(request)
        user = asked.user
        if user is None:
            raise Reject(401, "token", "An upgrade needs a valid token of the user who signed in.")

        valid = self._salt.now()
        append = partial(self._append_upgrade, session_id, asked, user, answered)
        if valid is None:
            self._when_known(append, answered)
        else:
            append(*valid)

    def _append_start(self, asked: Examined, answered: Answered, salt: Salt, at_us: int) -> None:
        session_id, record = _record(asked, salt, at_us)

        def ended(error: Retry | None) -> None:
            if error is None:
                self._accepted_session.inc()
            answered(error or answers.stored_session(session_id))

        self._appender.append(session_id, record, ended)

    def _append_upgrade(
        self,
        session_id: bytes | None,
        asked: Examined,
        user: User,
        answered: Answered,
        salt: Salt,
        at_us: int,
    ) -> None:
        identity, record = self._upgrade_record(session_id, asked, user, salt, at_us)

        def ended(error: Retry | None) -> None:
            if error is None:
                self._accepted_upgrade.inc()
            answered(error or answers.accepted_upgrade())

        self._appender.append(identity, record, ended)

    def _upgrade_record(
        self, session_id: bytes | None, asked: Examined, user: User, salt: Salt, at_us: int
    ) -> tuple[bytes, bytes]:
        """The bytes that choose an upgrade's shard, and its record."""
        own = self._examination.is_visitors_own(asked)
        visitor, user_hash = _hash_of_visitor(salt, asked), salt.hasher.user(asked.site, user.id)
        event = SessionUpgraded(
            _uuid7(at_us),
            session_id,
            visitor if session_id is None else None,
            salt.month,
            at_us,
            asked.site,
            user_hash,
            user.role,
            salt.hasher.sign_in(visitor, user_hash) if own else None,
        )
        return session_id or visitor, encode(event)

    def _when_known(self, append: Callable[[Salt, int], None], answered: Answered) -> None:
        """Calls `append` when Redis has given the salt."""

        async def wait() -> None:
            try:
                append(*await self._salt_from_redis())
            except Exception as error:  # noqa: BLE001 - each has its answer
                answered(error)

        task = asyncio.get_running_loop().create_task(wait())
        self._asking.add(task)  # a loop keeps no task alive
        task.add_done_callback(self._asking.discard)

    async def _salt_from_redis(self) -> tuple[Salt, int]:
        try:
            async with asyncio.timeout(WAIT_SECONDS):
                return await self._salt.get()
        except TimeoutError:
            raise Retry("salt", "Redis did not give the salt in time") from None


def _record(asked: Examined, salt: Salt, at_us: int) -> tuple[bytes, bytes]:
    """The session's id, and its record."""
    session_id = asked.body.id or _uuid7(at_us)
    if asked.user is None:
        hash_, role = _hash_of_visitor(salt, asked), None
    else:
        hash_, role = salt.hasher.user(asked.site, asked.user.id), asked.user.role
    return session_id, encode_started(session_id, salt.month, at_us, asked.site, hash_, role)


def _hash_of_visitor(salt: Salt, asked: Examined) -> bytes:
    return salt.hasher.visitor(asked.site, network_of(asked.address), asked.user_agent)


def _uuid7(at_us: int) -> bytes:
    """A UUIDv7 (RFC 9562, section 5.7): ids that are made in order are stored in order."""
    milliseconds = at_us // 1000
    tail = bytearray(os.urandom(10))
    tail[0] = tail[0] & 0x0F | 0x70
    tail[2] = tail[2] & 0x3F | 0x80
    return milliseconds.to_bytes(6, "big") + tail
