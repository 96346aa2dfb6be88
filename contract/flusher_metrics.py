"""The flusher's metrics, declared with their meaning (`contract.metrics`)."""

from functools import partial

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from contract.metric_kinds import FreshGauge, begin_at_zero

_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
_LONG_SECONDS = (0.1, 0.25, 0.5, 1, 1.5, 2, 3, 5, 10, 30, 60, 300, 1800, 7200)

_KINDS = ("session", "upgrade")
_DEAD = (
    "instant",
    "month",
    "month_dropped",
    "timed_out",
    "undecodable",
    "unknown_kind",
    "unknown_version",
)


class FlusherMetrics:
    """The flusher's."""

    def __init__(self, registry: CollectorRegistry) -> None:
        counter = partial(Counter, registry=registry)
        gauge = partial(FreshGauge, registry=registry)
        histogram = partial(Histogram, registry=registry)
        self.written = counter(
            "impact_written",
            "Events committed to PostgreSQL and acknowledged, by kind (session, upgrade); an "
            "upgrade that waits for its session counts.",
            ("kind",),
        )
        self.duplicate = counter(
            "impact_duplicate",
            "Events that changed nothing: a repeat, or an upgrade after the first.",
            ("kind",),
        )
        self.dead = counter(
            "impact_dead",
            "Entries moved to the dead letters. One that is replayed counts again, for what then "
            "becomes of it.",
            ("reason",),
        )
        self.dead_letters = gauge("impact_dead_letters", "Dead letters that exist now.")
        self.dead_dropped = counter(
            "impact_dead_dropped",
            "Dead letters that were deleted unread, because a shard keeps a limited number.",
        )
        self.acknowledge_unanswered = counter(
            "impact_acknowledge_unanswered",
            "Events in acknowledgements that got no answer, once per try: counted by this flusher, "
            "and perhaps also by another one.",
        )
        self.upgrades_waiting = gauge(
            "impact_upgrades_waiting", "Upgrades in PostgreSQL whose session has not arrived yet."
        )
        self.upgrades_given_up = counter(
            "impact_upgrades_given_up",
            "Upgrades that were given up because their session never arrived.",
        )
        self.upgrades_of_another_user = counter(
            "impact_upgrades_of_another_user",
            "Upgrades of a session that another user has already upgraded: the first one stays. "
            "Everyone who knows a session's id can claim it.",
        )
        self.stream_entries = gauge(
            "impact_stream_entries",
            "Sessions and upgrades in a shard's stream, also if several share an entry.",
            ("shard",),
        )
        self.stream_pending = gauge(
            "impact_stream_pending",
            "Entries of a shard that a flusher has read and not acknowledged.",
            ("shard",),
        )
        self.oldest_entry_seconds = gauge(
            "impact_oldest_entry_seconds",
            "Age of a shard's oldest entry; 0 if the shard is empty.",
            ("shard",),
        )
        self.buffer_used_ratio = gauge(
            "impact_buffer_used_ratio",
            "Redis's used memory as a share of its maxmemory, or of the machine's memory.",
        )
        self.buffer_seconds_left = gauge(
            "impact_buffer_seconds_left",
            "Time until Redis is full, at its present growth; +Inf if it does not grow.",
        )
        self.salts_lost = counter(
            "impact_salts_lost",
            "Salts that were made within a month for one that was lost or replaced: people who "
            "came before and come again count twice that month.",
        )
        self.counts_checked = Gauge(
            "impact_counts_checked_timestamp_seconds",
            "When `python -m flusher check` last found all kept counts right; 0: never.",
            registry=registry,
        )
        self.flush_seconds = histogram(
            "impact_flush_seconds",
            "Time a batch spends in a stage (write, acknowledge).",
            ("stage",),
            buckets=_SECONDS,
        )
        self.end_to_end_seconds = histogram(
            "impact_end_to_end_seconds",
            "From a session's request to its committed row; each batch observes its oldest.",
            buckets=_LONG_SECONDS,
        )
        begin_at_zero(self.written, _KINDS)
        begin_at_zero(self.duplicate, _KINDS)
        begin_at_zero(self.dead, _DEAD)
        begin_at_zero(self.flush_seconds, ("acknowledge", "write"))
