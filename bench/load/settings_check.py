"""Shows from the first rows whether the collector has the settings that a load needs."""

from datetime import tzinfo

from bench.load.reconcile import Row, read_rows, settle
from bench.load.sender import Tally
from bench.load.sent_log import SentLog, Who
from contract.errors import Misconfigured, Retry


async def check_settings(
    sent_log: SentLog, tally: Tally, dsn: str, zone: tzinfo, patience_seconds: float
) -> None:
    """Waits for the rows of `People`'s first visits, and checks them.

    Raises:
        Misconfigured: the collector does not trust the load's X-Forwarded-For, does not count the
            site, or does not accept the tokens.
        Retry: PostgreSQL is away, or the rows do not come.
    """
    if tally.statuses[403]:
        raise Misconfigured(
            "SITES", "the collector does not count the first of --sites", "SITES=*.example.org"
        )
    if tally.statuses[201] != len(sent_log):
        statuses = ", ".join(str(status) for status in tally.statuses) or "nothing"
        problem = f"the server there answers a session with {statuses}"
        raise Misconfigured("--url", problem, "--url http://127.0.0.1:8000")
    await settle(sent_log, dsn, zone, patience_seconds, aftermath_seconds=0)
    rows = await read_rows(sent_log, dsn)
    if len(rows) < len(sent_log):
        raise Retry(
            "no_rows",
            f"the first sessions have no rows after {patience_seconds:g} s: is a flusher "
            "running, and is DATABASE_URL its database?",
        )
    check_rows(sent_log, rows)


def check_rows(sent_log: SentLog, rows: list[Row]) -> None:
    """Checks the first rows: of two visitors, who differ only in their address, and of a user.

    Raises:
        Misconfigured: as `check_settings`.
    """
    by_who: dict[Who, list[Row]] = {who: [] for who in Who}
    for row in rows:
        number = sent_log.number_of(row.id)
        if number is not None:
            by_who[sent_log.who(number)].append(row)
    one, other = by_who[Who.VISITOR]
    if one.hash == other.hash:
        raise Misconfigured(
            "TRUSTED_PROXIES",
            "the collector does not trust the load's X-Forwarded-For: two visitors with different "
            "addresses got the same hash. It must name the address that the load comes from",
            "TRUSTED_PROXIES=127.0.0.1",
        )
    if by_who[Who.USER][0].role is None:
        raise Misconfigured(
            "JWT_KEY",
            "the collector takes a signed-in user for a visitor: its key, JWT_ALGORITHMS, "
            "JWT_AUDIENCE or JWT_USER_CLAIM differs",
            "JWT_KEY=the-secret-that-the-collector-has",
        )
