"""Shows from the first rows whether the collector has the settings that a load needs."""

from datetime import tzinfo

from bench.load.reconcile import read_rows, settle
from bench.load.sender import Sender
from contract.errors import Misconfigured, Retry


async def check_settings(sender: Sender, dsn: str, zone: tzinfo, patience_seconds: float) -> None:
    """Waits for the rows of the first visits (`People.visits`), and checks them.

    Raises:
        Misconfigured: the collector does not trust the load's X-Forwarded-For, does not count the
            site, or does not accept the tokens.
        Retry: PostgreSQL is away, or the rows do not come.
    """
    sent_log, statuses = sender.sent_log, sender.tally.statuses
    if statuses[403]:
        raise Misconfigured(
            "SITES", "the collector does not count the first of --sites", "SITES=*.example.org"
        )
    if statuses[201] != len(sent_log.sessions):
        found = ", ".join(map(str, statuses)) or "nothing"
        problem = f"the server there answers a session with {found}"
        raise Misconfigured("--url", problem, "--url http://127.0.0.1:8000")
    await settle(sent_log, dsn, zone, patience_seconds, aftermath_seconds=0)
    rows = {row.id: row for row in await read_rows(sent_log, dsn)}
    try:
        one, other, user = (rows[session.id] for session in sent_log.sessions)
    except KeyError:
        raise Retry(
            "no_rows",
            f"the first sessions have no rows after {patience_seconds:g} s: is a flusher "
            "running, and is DATABASE_URL its database?",
        ) from None
    if one.hash == other.hash:
        raise Misconfigured(
            "TRUSTED_PROXIES",
            "the collector does not trust the load's X-Forwarded-For: two visitors with different "
            "addresses got the same hash. It must name the address that the load comes from",
            "TRUSTED_PROXIES=127.0.0.1",
        )
    if user.role is None:
        raise Misconfigured(
            "JWT_KEY",
            "the collector takes a signed-in user for a visitor: its key, JWT_ALGORITHMS, "
            "JWT_AUDIENCE or JWT_USER_CLAIM differs",
            "JWT_KEY=the-secret-that-the-collector-has",
        )
