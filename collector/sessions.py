"""The way of a request: each step in its turn, from the socket to the stream."""

import asyncio
import os
from dataclasses import dataclass
from http import HTTPStatus

from aiohttp import hdrs, web

from collector import answers
from collector.address_check import AddressCheck
from collector.append import Appender
from collector.body import MAX_BYTES, Body, parse_body, parse_session_id
from collector.caller import TokenVerifier, User
from collector.client_address import Address, TrustedProxies, parse_address
from collector.crawlers import CrawlerFilter
from collector.monthly_salt import MonthlySalt
from collector.site import SitePolicy
from collector.waiting import WAIT_SECONDS
from contract.errors import Reject, Retry
from contract.identity import network_of, user_hash, visitor_hash
from contract.metrics import CollectorMetrics
from contract.record import SessionStarted, SessionUpgraded, encode
from process.salt_store import Salt

CURRENT = "current"


@dataclass(frozen=True, slots=True)
class _Request:
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
    ) -> None:
        self._sites = sites
        self._crawlers = crawlers
        self._tokens = tokens
        self._proxies = proxies
        self._salt = salt
        self._appender = appender
        self._metrics = metrics
        self._addresses = addresses

    def allows_origin(self, origin: str) -> bool:
        """Whether a page of this origin may read the answers."""
        return self._sites.allows_origin(origin)

    async def start(self, request: web.Request) -> web.Response:
        """`POST /web_api/v1/sessions`.

        Raises:
            Reject, Ignore, Retry: as the steps do.
        """
        raw = await _read(request)
        asked = self._examine(request, parse_body(_content_type(request), raw))
        salt, at_us = self._salt.now() or await self._salt_from_redis()
        session_id = asked.body.id or _uuid7(at_us)
        if asked.user is None:
            hash_, role = _hash_of_visitor(salt, asked), None
        else:
            hash_, role = user_hash(salt.value, asked.site, asked.user.id), asked.user.role
        event = SessionStarted(session_id, salt.month, at_us, asked.site, hash_, role)
        await self._appender.append(session_id, encode(event))
        self._metrics.accepted.labels("session").inc()
        return answers.stored_session(session_id)

    async def upgrade(self, request: web.Request) -> web.Response:
        """`PATCH` or `POST /web_api/v1/sessions/{id}/upgrade`.

        Raises:
            Reject, Ignore, Retry: as the steps do.
        """
        raw = await _read(request)
        named = request.match_info["id"]
        session_id = None if named == CURRENT else parse_session_id(named)
        asked = self._examine(request, parse_body(_content_type(request), raw))
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
            user_hash(salt.value, asked.site, asked.user.id),
            asked.user.role,
        )
        await self._appender.append(session_id or visitor or event.id, encode(event))
        self._metrics.accepted.labels("upgrade").inc()
        return answers.accepted_upgrade()

    def _examine(self, request: web.Request, body: Body) -> _Request:
        headers = request.headers
        peer = _peer(request)
        forwarded_host = (
            headers.get("X-Forwarded-Host")
            if peer is not None and self._proxies.trusts(peer)
            else None
        )
        site = self._sites.site_of(headers.get(hdrs.ORIGIN), forwarded_host, headers.get(hdrs.HOST))
        user_agent = self._crawlers.admit(headers)
        user = self._tokens.verify(headers.get(hdrs.AUTHORIZATION), body.token)
        if peer is None:
            raise Reject(400, "address", "The connection has no client address.")
        address = self._proxies.client(peer, headers)
        self._addresses.observe(address)
        return _Request(body, site, user_agent, user, address)

    async def _salt_from_redis(self) -> tuple[Salt, int]:
        try:
            async with asyncio.timeout(WAIT_SECONDS):
                return await self._salt.get()
        except TimeoutError:
            raise Retry("salt", "Redis did not give the salt in time") from None


async def _read(request: web.Request) -> bytes:
    length = request.content_length
    if length is not None and length > MAX_BYTES:
        raise Reject(413, "too_large", "The body is larger than 4 KiB.")
    try:
        return await request.read()
    except web.HTTPRequestEntityTooLarge:
        raise Reject(413, "too_large", "The body is larger than 4 KiB.") from None
    except web.RequestPayloadError:
        raise Reject(HTTPStatus.BAD_REQUEST, "body", "The body could not be read.") from None


def _content_type(request: web.Request) -> str:
    return request.headers.get(hdrs.CONTENT_TYPE, "").partition(";")[0].strip().lower()


def _peer(request: web.Request) -> Address | None:
    transport = request.transport
    peername = transport.get_extra_info("peername") if transport is not None else None
    return parse_address(peername[0]) if peername else None


def _hash_of_visitor(salt: Salt, asked: _Request) -> bytes:
    return visitor_hash(salt.value, asked.site, network_of(asked.address), asked.user_agent)


def _uuid7(at_us: int) -> bytes:
    """A UUIDv7 (RFC 9562, section 5.7): ids that are made in order are stored in order."""
    milliseconds = at_us // 1000
    tail = bytearray(os.urandom(10))
    tail[0] = tail[0] & 0x0F | 0x70
    tail[2] = tail[2] & 0x3F | 0x80
    return milliseconds.to_bytes(6, "big") + tail
