"""The way of a request: each step in its turn, from the socket to the stream."""

import asyncio
import os
from dataclasses import dataclass

from aiohttp import hdrs, web
from multidict import CIMultiDictProxy, istr

from collector.buffer.append import Appender
from collector.buffer.waiting import WAIT_SECONDS, Answered
from collector.http import answers
from collector.http.answers import Answer
from collector.http.reading import read_body
from collector.request.address_check import AddressCheck
from collector.request.body import EMPTY, Body, parse_body, parse_session_id
from collector.request.caller import TokenVerifier, User
from collector.request.client_address import Address, TrustedProxies, parse_address
from collector.request.crawlers import CrawlerFilter
from collector.request.new_sites import NewSites
from collector.request.site import SitePolicy
from contract.errors import Reject, Retry
from contract.identity import network_of
from contract.metrics import CollectorMetrics
from contract.record import SessionUpgraded, encode, encode_started
from salt.month import MonthlySalt
from salt.store import Salt

CURRENT = "current"
_FETCH_SITE = istr("Sec-Fetch-Site")
_PROXIES = 1024

Headers = CIMultiDictProxy[str]


@dataclass(slots=True)
class _Asked:
    """What the steps that need no other server have found out."""

    body: Body
    site: str
    user_agent: str
    user: User | None
    address: Address


class Sessions:
    """The two endpoints."""

    def __init__(
        self,
        sites: SitePolicy,
        crawlers: CrawlerFilter,
        tokens: TokenVerifier,
        proxies: TrustedProxies,
        salt: MonthlySalt,
        appender: Appender,
        metrics: CollectorMetrics,
        addresses: AddressCheck,
        new_sites: NewSites,
    ) -> None:
        self._sites = sites
        self._crawlers = crawlers
        self._tokens = tokens
        self._proxies = proxies
        self._salt = salt
        self._appender = appender
        self._addresses = addresses
        self._new_sites = new_sites
        self._accepted_session = metrics.accepted.labels("session")
        self._accepted_upgrade = metrics.accepted.labels("upgrade")
        # What the peers' texts mean, of proxies alone: a client's is forgotten with its request.
        self._proxy_addresses: dict[str, Address] = {}

    def begin(
        self, headers: Headers, peer: str | None, body: bytes, answered: Answered
    ) -> bytes | None:
        """`POST /web_api/v1/sessions` until Redis has to answer: the session's id; or None, if no
        salt is in memory.

        Args:
            headers: the request's.
            peer: the address at the other end of the connection.
            body: as received.
            answered: as in `Appender.begin`.

        Raises:
            Reject, Ignore, Retry: as the steps do.
        """
        valid = self._salt.now()
        if valid is None:
            return None
        asked = self._examine(headers, peer, body)
        self._new_sites.admit(asked.site)
        session_id, record = _record(asked, *valid)
        self._appender.begin(session_id, record, answered)
        return session_id

    async def start(self, request: web.BaseRequest, _: str) -> Answer:
        """`POST /web_api/v1/sessions`.

        Raises:
            Reject, Ignore, Retry: as the steps do.
        """
        asked = self._examine(request.headers, _peer(request), await read_body(request))
        # An upgrade makes no site: it is of a session of its own site, or waits in vain.
        self._new_sites.admit(asked.site)
        valid = self._salt.now() or await self._salt_from_redis()
        session_id, record = _record(asked, *valid)
        await self._appender.append(session_id, record)
        return self.stored(session_id)

    def stored(self, session_id: bytes) -> Answer:
        """The answer to a session that Redis has acknowledged."""
        self._accepted_session.inc()
        return answers.stored_session(session_id)

    async def upgrade(self, request: web.BaseRequest, named: str) -> Answer:
        """`PATCH` or `POST /web_api/v1/sessions/{id}/upgrade`.

        Raises:
            Reject, Ignore, Retry: as the steps do.
        """
        session_id = None if named == CURRENT else parse_session_id(named)
        asked = self._examine(request.headers, _peer(request), await read_body(request))
        if asked.user is None:
            raise Reject(401, "token", "An upgrade needs a valid token of the user who signed in.")
        salt, at_us = self._salt.now() or await self._salt_from_redis()
        visitor = _hash_of_visitor(salt, asked) if session_id is None else None
        event = SessionUpgraded(
            _uuid7(at_us),
            session_id,
            visitor,
            salt.month,
            at_us,
            asked.site,
            salt.hasher.user(asked.site, asked.user.id),
            asked.user.role,
        )
        await self._appender.append(session_id or visitor or event.id, encode(event))
        self._accepted_upgrade.inc()
        return answers.accepted_upgrade()

    def _examine(self, headers: Headers, peer_text: str | None, raw: bytes) -> _Asked:
        body = parse_body(headers.get(hdrs.CONTENT_TYPE, ""), raw) if raw else EMPTY
        peer, is_proxy = self._known_peer(peer_text)
        forwarded_host = headers.get("X-Forwarded-Host") if is_proxy else None
        origin = headers.get(hdrs.ORIGIN)
        fetch_site = headers.get(_FETCH_SITE) if not origin or origin == "null" else None
        site = self._sites.site_of(origin, forwarded_host, headers.get(hdrs.HOST), fetch_site)
        user_agent = self._crawlers.admit(headers)
        user = self._tokens.verify(headers.get(hdrs.AUTHORIZATION), body.token)
        if peer is None:
            raise Reject(400, "address", "The connection has no client address.")
        address = self._proxies.client(peer, headers)
        self._addresses.observe(address)
        return _Asked(body, site, user_agent, user, address)

    def _known_peer(self, text: str | None) -> tuple[Address | None, bool]:
        """Who is at the other end of the connection, and whether that is a trusted proxy."""
        if text is None:
            return None, False
        known = self._proxy_addresses.get(text)
        if known is not None:
            return known, True
        address = parse_address(text)
        trusted = address is not None and self._proxies.trusts(address)
        if address is not None and trusted and len(self._proxy_addresses) < _PROXIES:
            self._proxy_addresses[text] = address
        return address, trusted

    async def _salt_from_redis(self) -> tuple[Salt, int]:
        try:
            async with asyncio.timeout(WAIT_SECONDS):
                return await self._salt.get()
        except TimeoutError:
            raise Retry("salt", "Redis did not give the salt in time") from None


def _peer(request: web.BaseRequest) -> str | None:
    transport = request.transport
    peername = transport.get_extra_info("peername") if transport is not None else None
    return peername[0] if peername else None


def _record(asked: _Asked, salt: Salt, at_us: int) -> tuple[bytes, bytes]:
    """The session's id, and its record."""
    session_id = asked.body.id or _uuid7(at_us)
    if asked.user is None:
        hash_, role = _hash_of_visitor(salt, asked), None
    else:
        hash_, role = salt.hasher.user(asked.site, asked.user.id), asked.user.role
    return session_id, encode_started(session_id, salt.month, at_us, asked.site, hash_, role)


def _hash_of_visitor(salt: Salt, asked: _Asked) -> bytes:
    return salt.hasher.visitor(asked.site, network_of(asked.address), asked.user_agent)


def _uuid7(at_us: int) -> bytes:
    """A UUIDv7 (RFC 9562, section 5.7): ids that are made in order are stored in order."""
    milliseconds = at_us // 1000
    tail = bytearray(os.urandom(10))
    tail[0] = tail[0] & 0x0F | 0x70
    tail[2] = tail[2] & 0x3F | 0x80
    return milliseconds.to_bytes(6, "big") + tail
