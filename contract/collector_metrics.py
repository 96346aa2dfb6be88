"""The collector's metrics, declared with their meaning (`contract.metrics`)."""

from prometheus_client import CollectorRegistry, Counter, Gauge

from contract.plain_metrics import PlainCounter, PlainHistogram, begin_at_zero

_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
_SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)

_KINDS = ("session", "upgrade")
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
_ROLES = ("none", "ranked", "undecided", "unranked")
_CLOSED = ("slow", "too_many", "unread")


class CollectorMetrics:
    """The collector's."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.requests = PlainCounter(
            "impact_requests",
            "Requests answered, by route and HTTP status.",
            ("route", "status"),
            registry,
        )
        self.accepted = PlainCounter(
            "impact_accepted",
            "Requests whose event Redis has acknowledged, by kind (session, upgrade).",
            ("kind",),
            registry,
        )
        self.ignored = Counter(
            "impact_ignored",
            "Valid requests that store nothing, by reason: how a crawler was recognised "
            "(docs/who-counts.md), preflight, pageview, static pages.",
            ("reason",),
            registry=registry,
        )
        self.rejected = Counter(
            "impact_rejected", "Requests answered with 4xx.", ("reason",), registry=registry
        )
        self.failed = Counter(
            "impact_failed", "Requests answered with 5xx.", ("reason",), registry=registry
        )
        self.request_seconds = PlainHistogram(
            "impact_request_seconds", "From a request's headers to its answer.", _SECONDS, registry
        )
        self.connections = Gauge(
            "impact_connections", "Connections of front-ends and proxies.", registry=registry
        )
        self.connections_closed = Counter(
            "impact_connections_closed",
            "Connections that were refused or closed: too many, a request that arrived too slowly, "
            "or answers that the client did not read.",
            ("reason",),
            registry=registry,
        )
        self.client_address_suspect = Gauge(
            "impact_client_address_suspect",
            "1 if most of the last 500 visits had the same address (one_address), or private "
            "addresses (private), else 0: see TRUSTED_PROXIES.",
            ("reason",),
            registry=registry,
        )
        self.new_sites = Counter(
            "impact_new_sites",
            "New sites: not in SITES, and not seen recently by this process.",
            registry=registry,
        )
        self.hidden_origins = Counter(
            "impact_hidden_origins",
            "Requests of pages that hide their origin (`Origin: null`), from browsers too old to "
            "say where the page is: counted for the host they called, which may be wrong.",
            registry=registry,
        )
        self.token_roles = Counter(
            "impact_token_roles",
            "Valid tokens, by the role they name: one in JWT_ROLE_RANK (ranked), one that is not "
            "in it (unranked), several that are not in it (undecided: stored as `user`), none.",
            ("role",),
            registry=registry,
        )
        self.tokens_without_expiry = Counter(
            "impact_tokens_without_expiry",
            "Valid tokens without an expiry (`exp`): see JWT_REQUIRE_EXPIRY.",
            registry=registry,
        )
        self.append_unanswered = Counter(
            "impact_append_unanswered",
            "Events in writes to Redis that got no answer, or were not durable in time, once per "
            "try: perhaps stored, perhaps not.",
            registry=registry,
        )
        self.append_batch_size = PlainHistogram(
            "impact_append_batch_size", "Events that shared one write to Redis.", _SIZES, registry
        )
        self.clocks_disagree = Gauge(
            "impact_clocks_disagree",
            "1 while other clocks contradict that of the salt's server, so it is not followed.",
            registry=registry,
        )
        begin_at_zero(self.accepted, _KINDS)
        begin_at_zero(self.ignored, _IGNORED)
        begin_at_zero(self.rejected, _REJECTED)
        begin_at_zero(self.failed, _FAILED)
        begin_at_zero(self.token_roles, _ROLES)
        begin_at_zero(self.connections_closed, _CLOSED)
