"""Builds the endpoints from the settings."""

import warnings
from collections.abc import Sequence

import jwt
import structlog

from collector.buffer.append import Appender
from collector.examination import Examination
from collector.http.beacon import Beacon
from collector.http.routes import Page
from collector.request.address_check import AddressCheck
from collector.request.caller import TokenRules, TokenVerifier
from collector.request.client_address import TrustedProxies
from collector.request.crawlers import CrawlerFilter
from collector.request.new_sites import NewSites
from collector.request.roles import Roles
from collector.request.site import SitePolicy
from collector.sessions import Sessions
from contract import settings
from contract.collector_metrics import CollectorMetrics
from contract.setting import Environment
from salt.month import MonthlySalt

log = structlog.get_logger()


class Endpoints:
    """The two endpoints (`sessions`), the other pages, and the parts of them that others use."""

    def __init__(
        self,
        environment: Environment,
        salt: MonthlySalt,
        appender: Appender,
        metrics: CollectorMetrics,
    ) -> None:
        self.sites = SitePolicy(settings.SITES.read(environment))
        self._addresses = AddressCheck(metrics)
        per_minute = settings.NEW_SITES_PER_MINUTE.read(environment)
        self._new_sites = NewSites(self.sites, per_minute, metrics)
        proxies = TrustedProxies(
            settings.TRUSTED_PROXIES.read(environment),
            settings.CLIENT_ADDRESS_HEADER.read(environment),
        )
        tokens = _make_verifier(environment, metrics)
        examination = Examination(
            self.sites, CrawlerFilter(), tokens, proxies, self._addresses, metrics
        )
        self.sessions = Sessions(examination, self._new_sites, salt, appender, metrics)
        self.pages: Sequence[Page] = [*Beacon(metrics).routes, *demo_pages(environment, metrics)]

    def warnings(self) -> dict[str, str | None]:
        return self._addresses.warnings() | self._new_sites.warnings()


def _make_verifier(environment: Environment, metrics: CollectorMetrics) -> TokenVerifier:
    verifier = TokenVerifier(
        settings.JWT_KEY.read(environment),
        TokenRules(
            settings.JWT_ALGORITHMS.read(environment),
            settings.JWT_AUDIENCE.read(environment),
            settings.JWT_USER_CLAIM.read(environment),
            settings.JWT_LEEWAY_SECONDS.read(environment),
            settings.JWT_REQUIRE_EXPIRY.read(environment),
        ),
        Roles(settings.JWT_ROLE_CLAIM.read(environment), settings.JWT_ROLE_RANK.read(environment)),
        metrics,
    )
    for weakness in verifier.weaknesses:
        log.warning(
            "JWT_KEY is short: a person who guesses it can sign in as any user",
            why=weakness,
            to_do="have the platform sign with a longer key, and set JWT_KEY to it: "
            "openssl rand -hex 32",
        )
    # It is logged above. PyJWT would warn again at the first token.
    warnings.simplefilter("ignore", jwt.InsecureKeyLengthWarning)
    return verifier


def demo_pages(environment: Environment, metrics: CollectorMetrics) -> Sequence[Page]:
    """The routes of `/demo` if DEMO is 1, otherwise none."""
    if not settings.DEMO.read(environment):
        return ()
    # Imported here: only the demo needs asyncpg.
    from collector.http.demo.pages import DemoPages  # noqa: PLC0415 - see above

    log.warning("DEMO=1: /demo is served, with a token that signs its user in; not in production")
    return DemoPages(
        settings.DATABASE_URL.read(environment), settings.DEMO_TOKEN.read(environment), metrics
    ).routes
