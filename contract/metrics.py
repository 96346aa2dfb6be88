"""Every metric, declared once with its meaning. No label ever holds anything personal.

The funnel balances at any moment:

    received = accepted + ignored + rejected + failed
    accepted = written + duplicate + dead + still in the streams

where received is `impact_requests_total` over all its labels. While a server is being killed or cut
off, nobody can know whether a command without an answer was carried out: the second equation then
holds up to `impact_append_unanswered_total` and `impact_acknowledge_unanswered_total` more on its
right. The rows are right all the same: a session's id makes them one. And a process that is killed
takes with it what it had counted since it was last asked.

A counter that is born with its first event has no increase that Prometheus could see. So where the
words of a label are known they are all there from the start, at 0. Not known are the SQLSTATE that
an entry is set aside for, and which route has which status.
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
    """Every process's, beside those that Prometheus has for any (`process_…`)."""

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
            "Requests that are right but store nothing, by reason: what gave a crawler away "
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
            "Connections that were refused or cut: too many, a request that came too slowly, or "
            "answers that the client did not read.",
            ("reason",),
            registry=registry,
        )
        self.client_address_suspect = Gauge(
            "impact_client_address_suspect",
            "1 when most of the last 500 visits had one address (one_address), or private ones "
            "(private): see TRUSTED_PROXIES; else 0.",
            ("reason",),
            registry=registry,
        )
        self.new_sites = Counter(
            "impact_new_sites",
            "Sites that SITES does not name and that this process had not seen lately.",
            registry=registry,
        )
        self.hidden_origins = Counter(
            "impact_hidden_origins",
            "Requests of pages that hide their origin (`Origin: null`), from browsers too old to "
            "say where the page is: taken for the site that was asked, which may be wrong.",
            registry=registry,
        )
        self.token_roles = Counter(
            "impact_token_roles",
            "Good tokens, by the role they name: one of JWT_ROLE_RANK (ranked), one that it lacks "
            "(unranked), several that it lacks (undecided: stored as `user`), none.",
            ("role",),
            registry=registry,
        )
        self.tokens_without_expiry = Counter(
            "impact_tokens_without_expiry",
            "Good tokens without an end (`exp`): see JWT_REQUIRE_EXPIRY.",
            registry=registry,
        )
        self.append_unanswered = Counter(
            "impact_append_unanswered",
            "Events in writes to Redis that got no answer, or were not made durable in time, each "
            "time: stored or not.",
            registry=registry,
        )
        self.append_batch_size = PlainHistogram(
            "impact_append_batch_size", "Events that shared one write to Redis.", _SIZES, registry
        )
        self.clocks_disagree = Gauge(
            "impact_clocks_disagree",
            "1 while the clock of the salt's server is contradicted by others and not followed.",
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
            "impact_dead_letters", "Dead letters that are there now.", (), registry
        )
        self.dead_dropped = Counter(
            "impact_dead_dropped",
            "Dead letters that were dropped unseen, since a shard keeps a bounded number.",
            registry=registry,
        )
        self.acknowledge_unanswered = Counter(
            "impact_acknowledge_unanswered",
            "Events in acknowledgements that got no answer, each time: counted by this flusher, "
            "and perhaps by another that had them too.",
            registry=registry,
        )
        self.upgrades_waiting = FreshGauge(
            "impact_upgrades_waiting",
            "Upgrades in PostgreSQL whose session has not come yet.",
            (),
            registry,
        )
        self.upgrades_given_up = Counter(
            "impact_upgrades_given_up",
            "Upgrades whose session never came and that were given up.",
            registry=registry,
        )
        self.upgrades_of_another_user = Counter(
            "impact_upgrades_of_another_user",
            "Upgrades of a session that another user has: the first stays. Who knows a session's "
            "id can claim it.",
            registry=registry,
        )
        self.stream_entries = FreshGauge(
            "impact_stream_entries",
            "Sessions and upgrades in a shard's stream, also where several share an entry.",
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
            "Age of a shard's oldest entry, 0 when it is empty.",
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
            "Until Redis is full, if it goes on growing as it does; +Inf when it does not grow.",
            (),
            registry,
        )
        self.salts_lost = Counter(
            "impact_salts_lost",
            "Salts that were made in mid-month for one that was lost or replaced: who came before "
            "and comes again counts twice that month.",
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
            "From a session's request to its committed row, one observation a batch: its oldest.",
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
            "Looks at the salt that left it as it was, since clocks contradict each other.",
            registry=registry,
        )
        self.salt_month_current = FreshGauge(
            "impact_salt_month_current",
            "1 when the stored salt is the current month's; 0 when not, or when that is not known.",
            (),
            registry,
            unknown=0,
        )
        self.earlier_salts_left = FreshGauge(
            "impact_earlier_salts_left",
            "Earlier months' salts found wherever rotation can look.",
            (),
            registry,
        )
        self.disposal_unverified = FreshGauge(
            "impact_disposal_unverified",
            "Places (a server's file, its slow log) where the last disposal of a salt was refused, "
            "so that an operator has to do it.",
            (),
            registry,
        )


def _begin(metric: Counter | Histogram | PlainCounter, words: tuple[str, ...]) -> None:
    """Has it at 0 for each word that its one label may be."""
    for word in words:
        metric.labels(word)
