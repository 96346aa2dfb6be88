"""runtime/redis_client.py: which errors of Redis pass, and how they are reported."""

import pytest
from redis import exceptions
from redis.asyncio.connection import DefaultParser

from contract import settings
from contract.errors import Misconfigured, NotAdmitted
from runtime.redis_client import connect_redis, is_passing, retry_for


def answer(text: str) -> exceptions.RedisError:
    """An error of the server as the client library hands it on, which drops known codes."""
    error: exceptions.RedisError = DefaultParser.parse_error(text)  # type: ignore[no-untyped-call]  # the library's own
    return error


MISCONF = "MISCONF Redis is configured to save RDB snapshots, but it's unable to persist to disk."
NOPERM = "NOPERM this user has no permissions to run the 'xadd' command"
OOM = "OOM command not allowed when used memory > 'maxmemory'."


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        # The server starts, fails over, or is busy.
        ("LOADING Redis is loading the dataset in memory", "redis_away"),
        ("READONLY You can't write against a read only replica.", "redis_away"),
        ("MASTERDOWN Link with MASTER is down.", "redis_away"),
        ("CLUSTERDOWN The cluster is down", "redis_away"),
        ("TRYAGAIN Multiple keys request during rehashing of slot", "redis_away"),
        ("BUSY Redis is busy running a script.", "redis_away"),
        ("ERR max number of clients reached", "redis_away"),
        # It refuses, until an operator acts.
        ("WRONGTYPE Operation against a key holding the wrong kind of value", "redis_refused"),
        ("ERR unknown command 'XADD'", "redis_refused"),
        (NOPERM, "redis_refused"),
        (MISCONF, "redis_refused"),
        ("MISCONF Errors writing to the AOF file: No space left on device", "redis_refused"),
        ("NOAUTH Authentication required.", None),
        # It is full.
        (OOM, "redis_full"),
        (f"{OOM} script: 1, on @user_script:1.", "redis_full"),
    ],
)
def test_an_error_has_its_reason_and_the_servers_text(text: str, reason: str | None) -> None:
    """Also the error's code, which the client library removes."""
    retry = retry_for(answer(text), "appending")
    assert reason in (None, retry.reason)
    assert reason is None or is_passing(answer(text)) == (reason == "redis_away")
    assert isinstance(retry, NotAdmitted) == (reason is None)
    assert text[:19] in str(retry)


def test_a_broken_connection_passes_and_our_own_lack_of_connections_does_not() -> None:
    lost = exceptions.ConnectionError("Error 111 connecting to 10.0.0.5:6379.")
    assert is_passing(lost)
    text = str(retry_for(lost, "appending"))  # it names no address
    assert text == "appending: Redis does not answer (ConnectionError)"
    assert is_passing(exceptions.TimeoutError("Timeout reading from socket"))
    assert not is_passing(exceptions.MaxConnectionsError("Too many connections"))


@pytest.mark.parametrize(
    "text",
    [
        "ERR unknown command 'XADD', with args beginning with: 'secret'",
        "ERR Error running script (call to f_1): @user_script:1: secret",
        "ERR user_script:12: secret script: 1, on @user_script:12.",
        "NOPERM No permissions to access the 'secret' key",
        "BUSYGROUP\r\nsecret",
        "WRONGTYPE " + "x" * 200 + "secret",
    ],
)
def test_a_report_never_quotes_what_was_sent(text: str) -> None:
    """A server may quote the command, and so what was to be stored."""
    retry = retry_for(answer(text), "appending")
    assert str(retry).startswith("appending: ")
    assert "secret" not in str(retry)


@pytest.mark.parametrize(
    "url",
    [
        "redis://:hunter2@localhost:port",
        "redis://localhost:99999",
        "redis://localhost/0?db=first",
        "redis://localhost?socket_timeout=soon",
        "redis://:hun#ter2@localhost",
        "redis://localhost/impact",
        "redis://localhost/0/1",
        "redis://localhost/-1",
        "redis://localhost?timeout=5",
        "redis://localhost?decode_responses=1",
        "redis://localhost?retry=3",
        "redis://localhost?ssl_cert_reqs=none",
        "rediss://localhost?ssl_cert_reqs=sometimes",
        "rediss://localhost?ssl_trust=everybody",
        "unix:///run/redis.socket?timeout=5",
    ],
)
def test_a_url_that_no_client_can_be_made_of_is_misconfigured(url: str) -> None:
    """One line that names the setting and no password, never a traceback."""
    with pytest.raises(Misconfigured) as caught:
        connect_redis(settings.REDIS_URL.read({"REDIS_URL": url}))
    assert len(str(caught.value).splitlines()) == 1
    assert "hunter2" not in str(caught.value)
