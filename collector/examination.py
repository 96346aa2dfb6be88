"""Examines a request and decides whether it counts: the steps without I/O, in their order."""

from dataclasses import dataclass

from collector.http.routes import Request
from collector.request.address_check import AddressCheck
from collector.request.body import Body, parse_body
from collector.request.caller import TokenVerifier, User
from collector.request.client_address import Address, TrustedProxies
from collector.request.crawlers import CrawlerFilter
from collector.request.new_sites import NewSites
from collector.request.site import SitePolicy
from contract import settings
from contract.collector_metrics import CollectorMetrics
from contract.errors import Reject
from contract.identity import network_of
from contract.setting import Environment


@dataclass(slots=True)
class Examined:
    """What a request that counts says."""

    body: Body
    site: str
    user_agent: str
    user: User | None
    address: Address
    network: bytes  # the part of the address that stays with a person


class Examination:
    """Examines requests according to the settings."""

    def __init__(self, environment: Environment, metrics: CollectorMetrics) -> None:
        """
        Raises:
            Misconfigured: a setting is wrong.
        """
        self.sites = SitePolicy(settings.SITES.read(environment))
        per_minute = settings.NEW_SITES_PER_MINUTE.read(environment)
        self.new_sites = NewSites(self.sites, per_minute, metrics)
        self._crawlers = CrawlerFilter()
        self._tokens = TokenVerifier(environment, metrics)
        self._proxies = TrustedProxies(
            settings.TRUSTED_PROXIES.read(environment),
            settings.CLIENT_ADDRESS_HEADER.read(environment),
        )
        self._addresses = AddressCheck(metrics)
        self._hidden_origins = metrics.hidden_origins

    def examine(self, request: Request) -> Examined:
        """
        Raises:
            Reject, Ignore: it is not counted.
        """
        headers = request.headers
        body = parse_body(headers.get("content-type", ""), request.body)
        peer = self._proxies.peer(request.peer)
        forwarded_host = headers.get("x-forwarded-host") if peer.is_proxy else None
        origin = headers.get("origin")
        fetch_site = headers.get("sec-fetch-site") if not origin or origin == "null" else None
        site = self.sites.site_of(origin, forwarded_host, headers.get("host"), fetch_site)
        user_agent = self._crawlers.admit(headers)
        if origin == "null" and fetch_site != "same-origin":
            self._hidden_origins.inc()
        user = self._tokens.verify(headers.get("authorization"), body.token)
        address = self._proxies.client(peer, headers)
        if address is None:
            raise Reject(400, "address", "The connection has no client address.")
        network = network_of(address)
        self._addresses.observe(address, network)
        return Examined(body, site, user_agent, user, address, network)

    def is_visitors_address(self, address: Address) -> bool:
        """Whether it is a visitor's address, and not a trusted backend's, which all users share."""
        return not self._proxies.trusts(address)

    def warnings(self) -> dict[str, str | None]:
        """What looks wrong in the requests so far, for `/readyz`."""
        return self._addresses.warnings() | self.new_sites.warnings()
