"""runtime/cluster.py: which node has a slot, and how to connect to it."""

import pytest

from contract.errors import Misconfigured
from runtime.cluster import Cluster, _read_slots, server_name
from runtime.redis_client import Address

# As nodes answer: first and last slot, the primary, its replicas; host, port, id, and more.
REPLY = [
    [0, 5460, [b"10.0.0.1", 6379, b"a", []], [b"10.0.0.4", 6379, b"d", []]],
    [5461, 10922, [b"", 6380, b"b", []], [b"10.0.0.5", 6379, b"e", []]],
    [10923, 16382, [b"?", 0, b"x", []]],
]


def test_slots_have_primaries_and_one_without_a_host_is_the_node_that_answered() -> None:
    owners, nodes = _read_slots(REPLY, "10.0.0.2")
    one, two = Address("10.0.0.1", 6379), Address("10.0.0.2", 6380)
    assert owners == [one] * 5461 + [two] * 5462 + [None] * 5461
    assert nodes == [one, two, Address("10.0.0.4", 6379), Address("10.0.0.5", 6379)]


@pytest.mark.parametrize(
    "urls",
    [
        "unix:///run/redis.sock",
        "redis://node-1:6379/1",
        "redis://node-1:6379,http://node-2:6379",
        "redis://node-1:6379,redis://node-2:port",
        "redis://node-1:6379,redis://:6379",
        "redis://node-1:6379,redis://[::1",
        "redis://[node-1,node-2]:6379",
        # What only a later node says would have no effect.
        "redis://node-1:6379,node-2:6379/1",
        "redis://node-1:6379,rediss://node-2:6379",
        "redis://node-1:6379,redis://:secret@node-2:6379",
        "rediss://node-1:6379,node-2:6379?ssl_ca_certs=/etc/ssl/redis-ca.pem",
    ],
)
def test_urls_that_name_no_nodes_or_have_no_one_meaning_are_refused(urls: str) -> None:
    with pytest.raises(Misconfigured, match="REDIS_URL"):
        Cluster(urls)


def test_the_first_node_says_how_to_connect_to_all() -> None:
    first = "rediss://impact:se%2Ccret@node-1:6379"
    cluster = Cluster(f"{first}/0,node-2:6380,[::1]:6381/,{first}")
    client = cluster.client(Address("::1", 6381))
    options = client.connection_pool.connection_kwargs
    assert (options["username"], options["password"]) == ("impact", "se,cret")
    assert (options["host"], options["port"]) == ("::1", 6381)
    assert server_name(client) == "[::1]:6381"
