"""Examines a request and decides whether it counts: the steps without I/O, in their order."""

from dataclasses import dataclass

from collector.http.request import Request
from collector.request.address_check import AddressCheck
from collector.request.body import EMPTY, Body, parse_body
from collector.request.caller import TokenVerifier, User
from collector.request.client_address import Address, TrustedProxies
from collector.request.crawlers import CrawlerFilter
from collector.request.site import SitePolicy
from contract.collector_metrics import CollectorMetrics
from contract.errors import Reject


@dataclass(slots=True)
class Examined:
    """What a request that counts says."""

    body: Body
    site: str
    user_agent: str
    user: User | None
    address: Address


class Examination:
    """Examines requests according to the settings."""

    def __init__(
        self,
        sites: SitePolicy,
        crawlers: CrawlerFilter,
        tokens: TokenVerifier,
        proxies: TrustedProxies,
        addresses: AddressCheck,
        metrics: CollectorMetrics,
    ) -> None:
        self._sites = sites
        self._crawlers = crawlers
        self._tokens = tokens
        self._proxies = proxies
        self._addresses = addresses
        self._hidden_origins = metrics.hidden_origins

    def examine(self, request: Request) -> Examined:
        """
        Raises:
            Reject, Ignore: it is not counted.
        """
        headers, raw = request.headers, request.body
        body = parse_body(headers.get("content-type", ""), raw) if raw else EMPTY
        peer = self._proxies.peer(request.peer)
        forwarded_host = headers.get("x-forwarded-host") if peer.is_proxy else None
        origin = headers.get("origin")
        fetch_site = headers.get("sec-fetch-site") if not origin or origin == "null" else None
        site = self._sites.site_of(origin, forwarded_host, headers.get("host"), fetch_site)
        user_agent = self._crawlers.admit(headers)
        if origin == "null" and fetch_site != "same-origin":
            self._hidden_origins.inc()
        user = self._tokens.verify(headers.get("authorization"), body.token)
        address = self._proxies.client(peer, headers)
        if address is None:
            raise Reject(400, "address", "The connection has no client address.")
        self._addresses.observe(address)
        return Examined(body, site, user_agent, user, address)

    def is_visitors_address(self, address: Address) -> bool:
        """Whether it is a visitor's address, and not a trusted backend's, which all users share."""
        return not self._proxies.trusts(address)
