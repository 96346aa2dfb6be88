"""runtime/redis_client.py: which errors of Redis pass, and what is said about them."""

import pytest
from redis import exceptions
from redis.asyncio.connection import DefaultParser

from contract import settings
from contract.errors import Misconfigured
from runtime.redis_client import connect_redis, is_passing, retry_for


def answer(text: str) -> exceptions.RedisError:
    """An error of the server as the client library hands it on, which drops known codes."""
    error: exceptions.RedisError = DefaultParser.parse_error(text)  # type: ignore[no-untyped-call]  # the library's own
    return error


@pytest.mark.parametrize(
    "text",
    [
        "LOADING Redis is loading the dataset in memory",
        "READONLY You can't write against a read only replica.",
        "MASTERDOWN Link with MASTER is down.",
        "CLUSTERDOWN The cluster is down",
        "TRYAGAIN Multiple keys request during rehashing of slot",
        "BUSY Redis is busy running a script.",
        "ERR max number of clients reached",
    ],
)
def test_a_server_that_starts_fails_over_or_is_busy_passes(text: str) -> None:
    assert is_passing(answer(text))
    assert retry_for(answer(text), "appending").reason == "redis_away"


def test_a_connection_that_breaks_passes() -> None:
    assert is_passing(exceptions.ConnectionError("Connection reset by peer"))
    assert is_passing(exceptions.TimeoutError("Timeout reading from socket"))


@pytest.mark.parametrize(
    "text",
    [
        "WRONGTYPE Operation against a key holding the wrong kind of value",
        "ERR unknown command 'XADD'",
        "NOPERM this user has no permissions to run the 'xadd' command",
        "MISCONF Redis is configured to save RDB snapshots, but is unable to persist to disk.",
    ],
)
def test_a_refusal_does_not_pass_by_itself(text: str) -> None:
    assert not is_passing(answer(text))
    assert retry_for(answer(text), "appending").reason == "redis_refused"


def test_our_own_lack_of_connections_does_not_pass_by_itself() -> None:
    assert not is_passing(exceptions.MaxConnectionsError("Too many connections"))


@pytest.mark.parametrize(
    "text",
    [
        "OOM command not allowed when used memory > 'maxmemory'.",
        "OOM command not allowed when used memory > 'maxmemory'. script: 1, on @user_script:1.",
    ],
)
def test_a_full_server_is_said_to_be_full(text: str) -> None:
    assert retry_for(answer(text), "appending").reason == "redis_full"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "MISCONF Errors writing to the AOF file: No space left on device",
            "MISCONF Errors writing to the AOF file: No space left on device",
        ),
        (
            "MISCONF Redis is configured to save RDB snapshots, but it's unable to persist",
            "MISCONF Redis is configured to save RDB snapshots, but it's unable to persist",
        ),
        ("OOM command not allowed when used memory > 'maxmemory'.", "OOM command not allowed when"),
        ("NOPERM this user has no permissions to run the 'xadd' command", "NOPERM this user has"),
        ("WRONGPASS invalid username-password pair or user is disabled.", "WRONGPASS invalid"),
        ("LOADING Redis is loading the dataset in memory", "LOADING Redis is loading"),
        ("READONLY You can't write against a read only replica.", "READONLY You can't write"),
        ("ERR unknown command 'XADD'", "ERR unknown command"),
    ],
)
def test_the_servers_own_word_is_in_the_line(text: str, said: str) -> None:
    """With the code that the client library takes off."""
    assert said in str(retry_for(answer(text), "appending"))


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
def test_what_is_said_never_quotes_what_was_sent(text: str) -> None:
    """A server may quote the command, and with it what was to be stored."""
    retry = retry_for(answer(text), "appending")
    assert str(retry).startswith("appending: ")
    assert "secret" not in str(retry)


def test_an_error_of_the_client_is_told_by_its_type() -> None:
    """Its text names addresses."""
    error = exceptions.ConnectionError("Error 111 connecting to 10.0.0.5:6379.")
    assert str(retry_for(error, "appending")) == (
        "appending: Redis does not answer (ConnectionError)"
    )


@pytest.mark.parametrize(
    "url",
    [
        "redis://:hunter2@localhost:port",
        "redis://localhost:99999",
        "redis://localhost/0?db=first",
        "redis://localhost?socket_timeout=soon",
    ],
)
def test_a_url_that_no_client_can_be_made_of_is_misconfigured(url: str) -> None:
    """One line that names the setting and no password, never a traceback."""
    with pytest.raises(Misconfigured) as caught:
        connect_redis(settings.REDIS_URL.read({"REDIS_URL": url}))
    assert len(str(caught.value).splitlines()) == 1
    assert "hunter2" not in str(caught.value)
