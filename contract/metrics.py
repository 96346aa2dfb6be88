"""Every metric, declared once with its meaning. No label ever holds anything personal.

These equations hold at any moment:

    received = accepted + ignored + rejected + failed
    accepted = written + duplicate + dead + still in the streams

where received is `impact_requests_total` over all its labels. If a server is killed or cut off, it
is unknown whether a command without an answer was carried out. The right side of the second
equation may then be too large by up to `impact_append_unanswered_total` plus
`impact_acknowledge_unanswered_total`. The rows are right nevertheless, because a session's id makes
repeats the same row. If a process is killed, its counts since the last scrape are lost.

Prometheus can't see the increase of a counter that appears with its first event. So if the values
of a label are known, they all exist from the start, at 0. Unknown are the SQLSTATE of a dead
letter, and which route has which status.
"""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from contract.fresh_gauge import FreshGauge
from contract.plain_metrics import PlainCounter, PlainHistogram
from contract.version import VERSION

_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
_LONG_SECONDS = (0.1, 0.25, 0.5, 1, 1.5, 2, 3, 5, 10, 30, 60, 300, 1800, 7200)
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
_DEAD = (
    "instant",
    "month",
    "month_dropped",
    "timed_out",
    "undecodable",
    "unknown_kind",
    "unknown_version",
)
_STAGES = ("acknowledge", "write")


class ProcessMetrics:
    """Those of every process, in addition to Prometheus's own (`process_…`)."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.build_info = Gauge(
            "impact_build_info", "1, labelled with the release.", ("version",), registry=registry
        )
        self.build_info.labels(VERSION).set(1)


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
        _begin(self.accepted, _KINDS)
        _begin(self.ignored, _IGNORED)
        _begin(self.rejected, _REJECTED)
        _begin(self.failed, _FAILED)
        _begin(self.token_roles, _ROLES)
        _begin(self.connections_closed, _CLOSED)


class FlusherMetrics:
    """The flusher's."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.written = Counter(
            "impact_written",
            "Events committed to PostgreSQL and acknowledged, by kind (session, upgrade); an "
            "upgrade that waits for its session counts.",
            ("kind",),
            registry=registry,
        )
        self.duplicate = Counter(
            "impact_duplicate",
            "Events that changed nothing: a repeat, or an upgrade after the first.",
            ("kind",),
            registry=registry,
        )
        self.dead = Counter(
            "impact_dead", "Entries moved to the dead letters.", ("reason",), registry=registry
        )
        self.dead_letters = FreshGauge(
            "impact_dead_letters", "Dead letters that exist now.", (), registry
        )
        self.dead_dropped = Counter(
            "impact_dead_dropped",
            "Dead letters that were deleted unread, because a shard keeps a limited number.",
            registry=registry,
        )
        self.acknowledge_unanswered = Counter(
            "impact_acknowledge_unanswered",
            "Events in acknowledgements that got no answer, once per try: counted by this flusher, "
            "and perhaps also by another one.",
            registry=registry,
        )
        self.upgrades_waiting = FreshGauge(
            "impact_upgrades_waiting",
            "Upgrades in PostgreSQL whose session has not arrived yet.",
            (),
            registry,
        )
        self.upgrades_given_up = Counter(
            "impact_upgrades_given_up",
            "Upgrades that were given up because their session never arrived.",
            registry=registry,
        )
        self.upgrades_of_another_user = Counter(
            "impact_upgrades_of_another_user",
            "Upgrades of a session that another user has already upgraded: the first one stays. "
            "Everyone who knows a session's id can claim it.",
            registry=registry,
        )
        self.stream_entries = FreshGauge(
            "impact_stream_entries",
            "Sessions and upgrades in a shard's stream, also if several share an entry.",
            ("shard",),
            registry,
        )
        self.stream_pending = FreshGauge(
            "impact_stream_pending",
            "Entries of a shard that a flusher has read and not acknowledged.",
            ("shard",),
            registry,
        )
        self.oldest_entry_seconds = FreshGauge(
            "impact_oldest_entry_seconds",
            "Age of a shard's oldest entry; 0 if the shard is empty.",
            ("shard",),
            registry,
        )
        self.buffer_used_ratio = FreshGauge(
            "impact_buffer_used_ratio",
            "Redis's used memory as a share of its maxmemory, or of the machine's memory.",
            (),
            registry,
        )
        self.buffer_seconds_left = FreshGauge(
            "impact_buffer_seconds_left",
            "Time until Redis is full, at its present growth; +Inf if it does not grow.",
            (),
            registry,
        )
        self.salts_lost = Counter(
            "impact_salts_lost",
            "Salts that were made within a month for one that was lost or replaced: people who "
            "came before and come again count twice that month.",
            registry=registry,
        )
        self.counts_checked = Gauge(
            "impact_counts_checked_timestamp_seconds",
            "When `python -m flusher check` last found all kept counts right; 0: never.",
            registry=registry,
        )
        self.flush_seconds = Histogram(
            "impact_flush_seconds",
            "Time a batch spends in a stage (write, acknowledge).",
            ("stage",),
            buckets=_SECONDS,
            registry=registry,
        )
        self.end_to_end_seconds = Histogram(
            "impact_end_to_end_seconds",
            "From a session's request to its committed row; each batch observes its oldest.",
            buckets=_LONG_SECONDS,
            registry=registry,
        )
        _begin(self.written, _KINDS)
        _begin(self.duplicate, _KINDS)
        _begin(self.dead, _DEAD)
        _begin(self.flush_seconds, _STAGES)


class RotationMetrics:
    """Rotation's."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.rotations = Counter(
            "impact_rotations", "Salts that this process has made.", registry=registry
        )
        self.clocks_disagreed = Counter(
            "impact_clocks_disagreed",
            "Checks that left the salt unchanged because clocks contradict each other.",
            registry=registry,
        )
        self.salt_month_current = FreshGauge(
            "impact_salt_month_current",
            "1 if the stored salt is the current month's; 0 if not, or if it is unknown.",
            (),
            registry,
            unknown=0,
        )
        self.earlier_salts_left = FreshGauge(
            "impact_earlier_salts_left",
            "Earlier months' salts that rotation found in all places that it can check.",
            (),
            registry,
        )
        self.disposal_unverified = FreshGauge(
            "impact_disposal_unverified",
            "Places (a server's file, its slow log) where the server refused the last disposal of "
            "a salt, so that an operator has to do it.",
            (),
            registry,
        )


def _begin(metric: Counter | Histogram | PlainCounter, words: tuple[str, ...]) -> None:
    """Makes it 0 for each value of its one label."""
    for word in words:
        metric.labels(word)
