"""collector/request/address_check.py: a wrong proxy setting is noticed, and no address is kept."""

import pickle
from ipaddress import IPv4Address, IPv6Address, ip_address

import pytest
import structlog
from hypothesis import example, given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from collector.request.address_check import ONE_ADDRESS, PRIVATE, WINDOW, AddressCheck
from contract.collector_metrics import CollectorMetrics
from contract.identity import embedded_ipv4

PUBLIC = int(ip_address("198.18.0.0")) + 65_536 * 100


class Collector:
    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.check = AddressCheck(CollectorMetrics(self.registry))

    def visits(self, *addresses: str, times: int = 1) -> None:
        for _ in range(times):
            for address in addresses:
                self.check.observe(ip_address(address).packed)

    def strangers(self, number: int) -> None:
        for n in range(number):
            self.check.observe(ip_address(PUBLIC + n).packed)

    @property
    def suspect(self) -> set[str]:
        """The signs that are shown, which metric and page agree on."""
        shown = {
            sign
            for sign in (ONE_ADDRESS, PRIVATE)
            if self.registry.get_sample_value("impact_client_address_suspect", {"reason": sign})
        }
        warned = {name for name, advice in self.check.warnings().items() if advice}
        assert warned == {f"client_address_{sign}" for sign in shown}
        return shown


@pytest.fixture
def collector() -> Collector:
    return Collector()


def test_visits_of_many_are_nothing_to_warn_of(collector: Collector) -> None:
    with structlog.testing.capture_logs() as logs:
        collector.strangers(3 * WINDOW)
    assert collector.suspect == set()
    assert logs == []


def test_a_proxy_that_is_not_trusted_is_noticed(collector: Collector) -> None:
    with structlog.testing.capture_logs() as logs:
        collector.visits("10.0.0.1", times=WINDOW)
    assert collector.suspect == {ONE_ADDRESS, PRIVATE}
    assert [line["sign"] for line in logs] == [ONE_ADDRESS, PRIVATE]
    assert all("TRUSTED_PROXIES" in line["event"] for line in logs)


def test_a_public_proxy_is_noticed_among_others(collector: Collector) -> None:
    collector.visits("192.0.2.1", times=WINDOW // 2 + 1)
    collector.strangers(WINDOW // 2 - 1)
    assert collector.suspect == {ONE_ADDRESS}


def test_several_private_proxies_are_noticed(collector: Collector) -> None:
    collector.visits("10.0.0.1", "10.0.0.2", "fd00::1", "172.16.0.9", "::1", times=WINDOW // 5)
    assert collector.suspect == {PRIVATE}


def test_one_ipv6_network_is_one_address(collector: Collector) -> None:
    collector.visits(*(f"2001:db8::{n:x}" for n in range(1, WINDOW + 1)))
    assert collector.suspect == {ONE_ADDRESS}


def test_half_of_the_visits_may_be_anything(collector: Collector) -> None:
    collector.visits("10.0.0.1", times=WINDOW // 2)
    collector.strangers(WINDOW // 2)
    assert collector.suspect == set()


def test_nothing_is_said_before_there_is_enough(collector: Collector) -> None:
    collector.visits("10.0.0.1", times=WINDOW - 1)
    assert collector.suspect == set()


def test_what_is_mended_is_no_longer_shown(collector: Collector) -> None:
    collector.visits("10.0.0.1", times=WINDOW)
    collector.strangers(WINDOW)
    assert collector.suspect == set()


def test_the_warning_comes_once_an_hour(
    collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1_000.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    with structlog.testing.capture_logs() as logs:
        collector.visits("192.0.2.1", times=5 * WINDOW)
        assert len(logs) == 1
        now += 3_600
        collector.visits("192.0.2.1", times=2 * WINDOW)
    assert len(logs) == 2


def test_no_address_is_held_and_nothing_of_a_window_outlives_it(collector: Collector) -> None:
    address = IPv4Address("203.0.113.77")
    collector.check.observe(address.packed)
    held = pickle.dumps((collector.check._networks, collector.check._key))
    assert address.packed not in held
    assert int(address) not in collector.check._networks
    key = collector.check._key
    collector.strangers(WINDOW - 1)
    assert collector.check._networks == []
    assert collector.check._key != key


def test_no_log_line_names_an_address(collector: Collector) -> None:
    with structlog.testing.capture_logs() as logs:
        collector.visits("10.20.30.40", times=WINDOW)
    assert logs
    assert "10.20.30.40" not in str(logs)


def is_private(address: IPv4Address | IPv6Address) -> bool:
    check = Collector().check
    check.observe(address.packed)
    return bool(check._private)


@given(st.ip_addresses())
@example(IPv6Address("64:ff9b:1:230c:2b11:f1ce:6440:0"))
def test_private_is_what_the_registries_say(address: IPv4Address | IPv6Address) -> None:
    """IANA's lists have more, which no proxy's network has: benchmarks, documentation. Of an IPv4
    address within an IPv6 one, the former counts.
    """
    embedded = None if isinstance(address, IPv4Address) else embedded_ipv4(address.packed)
    if is_private(address):
        assert not (address if embedded is None else IPv4Address(embedded)).is_global


@pytest.mark.parametrize(
    ("address", "private"),
    [
        ("10.0.0.0", True),
        ("10.255.255.255", True),
        ("11.0.0.0", False),
        ("172.15.255.255", False),
        ("172.31.255.255", True),
        ("172.32.0.0", False),
        ("192.168.1.1", True),
        ("127.0.0.1", True),
        ("100.64.0.1", True),
        ("100.128.0.0", False),
        ("169.254.1.1", True),
        ("8.8.8.8", False),
        ("::1", True),
        ("::2", False),
        ("fc00::1", True),
        ("fdff::1", True),
        ("fe80::1", True),
        ("fec0::1", False),
        ("2001:db8::1", False),
    ],
)
def test_a_private_address_is_one_of_a_network_or_a_machine(address: str, *, private: bool) -> None:
    assert is_private(ip_address(address)) is private
