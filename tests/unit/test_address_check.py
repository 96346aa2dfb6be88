"""collector/request/address_check.py: a wrong proxy setting is noticed; no address is kept."""

import pickle
from ipaddress import IPv4Address, ip_address

import pytest
import structlog
from prometheus_client import CollectorRegistry

from collector.request.address_check import ONE_ADDRESS, PRIVATE, WINDOW, AddressCheck
from contract.collector_metrics import CollectorMetrics

PUBLIC = int(ip_address("198.18.0.0")) + 65_536 * 100


class Collector:
    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.now = 1_000.0
        self.check = AddressCheck(CollectorMetrics(self.registry), lambda: self.now)

    def visits(self, *addresses: str, times: int = 1) -> None:
        for _ in range(times):
            for address in addresses:
                self.check.observe(ip_address(address).packed)

    def strangers(self, number: int) -> None:
        for n in range(number):
            self.check.observe(ip_address(PUBLIC + n).packed)

    @property
    def suspect(self) -> set[str]:
        """The signs that are shown. The metric and the page agree."""
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


HALF = WINDOW // 2
PRIVATE_PROXIES = ("10.0.0.1", "10.0.0.2", "fd00::1", "172.16.0.9", "::1")
ONE_NETWORK = tuple(f"2001:db8::{n:x}" for n in range(1, WINDOW + 1))


@pytest.mark.parametrize(
    ("addresses", "times", "strangers", "suspect"),
    [
        pytest.param((), 0, 3 * WINDOW, set(), id="many clients"),
        pytest.param(("10.0.0.1",), WINDOW, 0, {ONE_ADDRESS, PRIVATE}, id="proxy not trusted"),
        pytest.param(("192.0.2.1",), HALF + 1, HALF - 1, {ONE_ADDRESS}, id="public proxy"),
        pytest.param(PRIVATE_PROXIES, WINDOW // 5, 0, {PRIVATE}, id="several private proxies"),
        pytest.param(ONE_NETWORK, 1, 0, {ONE_ADDRESS}, id="one IPv6 network"),
        pytest.param(("10.0.0.1",), HALF, HALF, set(), id="half of the visits"),
        pytest.param(("10.0.0.1",), WINDOW - 1, 0, set(), id="too few visits"),
        pytest.param(("10.0.0.1",), WINDOW, WINDOW, set(), id="corrected"),
    ],
)
def test_visits_that_come_from_one_or_from_private_addresses_are_noticed(
    collector: Collector, addresses: tuple[str, ...], times: int, strangers: int, suspect: set[str]
) -> None:
    collector.visits(*addresses, times=times)
    collector.strangers(strangers)
    assert collector.suspect == suspect


def test_the_warning_comes_once_an_hour(collector: Collector) -> None:
    with structlog.testing.capture_logs() as logs:
        collector.visits("192.0.2.1", times=5 * WINDOW)
        assert len(logs) == 1
        collector.now += 3_600
        collector.visits("192.0.2.1", times=2 * WINDOW)
    assert len(logs) == 2


def test_no_address_is_kept_and_nothing_of_a_window_stays_after_it(collector: Collector) -> None:
    address = IPv4Address("203.0.113.77")
    collector.check.observe(address.packed)
    held = pickle.dumps((collector.check._networks, collector.check._key))
    assert address.packed not in held
    assert int(address) not in collector.check._networks
    key = collector.check._key
    collector.strangers(WINDOW - 1)
    assert collector.check._networks == []
    assert collector.check._key != key


@pytest.mark.parametrize(
    ("addresses", "private"),
    [
        ("10.0.0.0 10.255.255.255 172.31.255.255 192.168.1.1 127.0.0.1 100.64.0.1", 1),
        ("169.254.1.1 ::1 fc00::1 fdff::1 fe80::1", 1),
        ("11.0.0.0 172.15.255.255 172.32.0.0 100.128.0.0 8.8.8.8 ::2 fec0::1 2001:db8::1", 0),
        # An IPv4 address that an IPv6 one embeds counts instead of it.
        ("64:ff9b::a00:1 64:ff9b:1:230c:2b11:f1ce:6440:0", 1),
        ("64:ff9b::808:808", 0),
    ],
)
def test_a_private_address_is_one_of_a_network_or_a_machine(addresses: str, private: int) -> None:
    for address in addresses.split():
        check = Collector().check
        check.observe(ip_address(address).packed)
        assert check._private == private, address
