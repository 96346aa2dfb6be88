"""The collector's metrics, declared with their meaning (`contract.metrics`)."""

from functools import partial

from prometheus_client import CollectorRegistry, Counter, Gauge

from contract.metric_kinds import PlainCounter, PlainHistogram, begin_at_zero

_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
_SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)

_IGNORED = (
    "ai_agent",
    "crawler",
    "headless",
    "http_library",
    "monitor",
    "no_user_agent",
    "not_a_browser",
    "page",
    "pageview",
    "prefetch",
    "preflight",
)
_REJECTED = (
    "address",
    "body",
    "content_coding",
    "content_type",
    "disconnected",
    "headers_too_large",
    "method",
    "not_http",
    "origin",
    "session_id",
    "site",
    "token",
    "too_large",
    "unknown_path",
)
_FAILED = (
    "clocks",
    "demo_database",
    "fault",
    "new_sites",
    "not_durable",
    "overload",
    "redis_away",
    "redis_forgets",
    "redis_full",
    "redis_refused",
    "salt",
)


class CollectorMetrics:
    """The collector's."""

    def __init__(self, registry: CollectorRegistry) -> None:
        counter = partial(Counter, registry=registry)
        gauge = partial(Gauge, registry=registry)
        plain_counter = partial(PlainCounter, registry=registry)
        plain_histogram = partial(PlainHistogram, registry=registry)
        self.requests = plain_counter(
            "impact_requests", "Requests answered, by route and HTTP status.", ("route", "status")
        )
        self.accepted = plain_counter(
            "impact_accepted",
            "Requests whose event Redis has acknowledged, by kind (session, upgrade).",
            ("kind",),
        )
        self.ignored = counter(
            "impact_ignored",
            "Valid requests that store nothing, by reason: how a crawler was recognised "
            "(docs/who-counts.md), preflight, pageview, static pages.",
            ("reason",),
        )
        self.rejected = counter("impact_rejected", "Requests answered with 4xx.", ("reason",))
        self.failed = counter("impact_failed", "Requests answered with 5xx.", ("reason",))
        self.request_seconds = plain_histogram(
            "impact_request_seconds", "From a request's headers to its answer.", _SECONDS
        )
        self.connections = gauge("impact_connections", "Connections of front-ends and proxies.")
        self.connections_closed = counter(
            "impact_connections_closed",
            "Connections that were refused or closed: too many, a request that arrived too slowly, "
            "or answers that the client did not read.",
            ("reason",),
        )
        self.client_address_suspect = gauge(
            "impact_client_address_suspect",
            "1 if most of the last 500 visits had the same address (one_address), or private "
            "addresses (private), else 0: see TRUSTED_PROXIES.",
            ("reason",),
        )
        self.new_sites = counter(
            "impact_new_sites", "New sites: not in SITES, and not seen recently by this process."
        )
        self.hidden_origins = counter(
            "impact_hidden_origins",
            "Requests of pages that hide their origin (`Origin: null`), from browsers too old to "
            "say where the page is: counted for the host they called, which may be wrong.",
        )
        self.token_roles = counter(
            "impact_token_roles",
            "Valid tokens, by the role they name: one in JWT_ROLE_RANK (ranked), one that is not "
            "in it (unranked), several that are not in it (undecided: stored as `user`), none.",
            ("role",),
        )
        self.tokens_without_expiry = counter(
            "impact_tokens_without_expiry",
            "Valid tokens without an expiry (`exp`): see JWT_REQUIRE_EXPIRY.",
        )
        self.append_unanswered = counter(
            "impact_append_unanswered",
            "Events in writes to Redis that got no answer, or were not durable in time, once per "
            "try: perhaps stored, perhaps not.",
        )
        self.append_batch_size = plain_histogram(
            "impact_append_batch_size", "Events that shared one write to Redis.", _SIZES
        )
        self.clocks_disagree = gauge(
            "impact_clocks_disagree",
            "1 while other clocks contradict that of the salt's server, so it is not followed.",
        )
        begin_at_zero(self.accepted, ("session", "upgrade"))
        begin_at_zero(self.ignored, _IGNORED)
        begin_at_zero(self.rejected, _REJECTED)
        begin_at_zero(self.failed, _FAILED)
        begin_at_zero(self.token_roles, ("none", "ranked", "undecided", "unranked"))
        begin_at_zero(self.connections_closed, ("slow", "too_many", "unread"))
