"""Checks whether the clients' addresses look wrong: a wrong proxy setting ruins the count.

If a proxy is not trusted, all clients seem to have its address, which is usually a private one. So
the collector warns if more than half of the last visits came from one network, or from private
addresses. It keeps only a hash of each network, with a key that is new for each window of visits.
"""

import os
import time
from collections import Counter
from collections.abc import Callable

import structlog

from collector.request.client_address import Networks
from contract.collector_metrics import CollectorMetrics
from contract.setting_values import parse_networks
from runtime.periodic import Interval

WINDOW = 500
_MOST = 0.5
_BETWEEN_WARNINGS_SECONDS = 3600.0
_KEY_BYTES = 16
_IPV4_BYTES = 4

ONE_ADDRESS = "one_address"
PRIVATE = "private"
_ADVICE = {
    ONE_ADDRESS: (
        "most visits come from one address: if that is a proxy's, name it in TRUSTED_PROXIES, and "
        "make sure that it sends X-Forwarded-For"
    ),
    PRIVATE: (
        "most visits come from private addresses: if they pass a proxy, name it in TRUSTED_PROXIES,"
        " and make sure that it sends X-Forwarded-For"
    ),
}

# RFC 1918, 3927, 4193, 4291, 6598 and loopback.
_PRIVATE = Networks(
    parse_networks(
        "10.0.0.0/8, 172.16.0.0/12, 192.168.0.0/16, 127.0.0.0/8, 100.64.0.0/10, 169.254.0.0/16, "
        "fc00::/7, fe80::/10, ::1/128"
    )
)

log = structlog.get_logger()


class AddressCheck:
    """Checks the addresses of visits in windows of `WINDOW`, and warns if they look wrong."""

    def __init__(
        self, metrics: CollectorMetrics, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._suspect = {
            sign: metrics.client_address_suspect.labels(sign) for sign in (ONE_ADDRESS, PRIVATE)
        }
        self._warning = {sign: Interval(_BETWEEN_WARNINGS_SECONDS, clock) for sign in self._suspect}
        self._found: frozenset[str] = frozenset()
        self._open_window()

    def observe(self, address: bytes, network: bytes) -> None:
        """Counts a visit's address (4 or 16 bytes) without keeping it.

        `network`: `contract.identity.network_of` it.
        """
        # An IPv6 address may embed an IPv4 address.
        self._private += (network if len(network) == _IPV4_BYTES else address) in _PRIVATE
        self._networks.append(hash((self._key, network)))
        if len(self._networks) == WINDOW:
            self._close_window()

    def warnings(self) -> dict[str, str | None]:
        """The result of the last window, for `/readyz`: for each sign the advice, or None."""
        return {
            f"client_address_{sign}": advice if sign in self._found else None
            for sign, advice in _ADVICE.items()
        }

    def _open_window(self) -> None:
        self._key = os.urandom(_KEY_BYTES)
        self._networks: list[int] = []
        self._private = 0

    def _close_window(self) -> None:
        ((_, most),) = Counter(self._networks).most_common(1)
        counts = {ONE_ADDRESS: most, PRIVATE: self._private}
        self._found = frozenset(sign for sign, n in counts.items() if n > _MOST * WINDOW)
        for sign, gauge in self._suspect.items():
            gauge.set(sign in self._found)
        for sign in sorted(self._found):
            if self._warning[sign].ended():
                log.warning(_ADVICE[sign], sign=sign, visits=WINDOW)
        self._open_window()
