"""Any combination of headers gets an answer, and never a 5xx.

From the headers to the appended event, without sockets. The headers are what HTTP parsers accept.
"""

import asyncio
import random
from collections import Counter
from typing import cast

import pytest
from multidict import CIMultiDict
from prometheus_client import CollectorRegistry

from bench.crawlers.corpora import ai_agents, mistaken_people
from collector.buffer.append import Appender
from collector.buffer.pending import OnResult
from collector.http.answering import Answering
from collector.http.answers import Answer
from collector.http.routes import Request, Route
from collector.request.crawlers import Reason
from contract.collector_metrics import CollectorMetrics
from tests.whole_collector import make_sessions

COMBINATIONS = 100_000
FEW = 3_000

CHROME = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/141.0.0.0"
GARBAGE = [
    *("", " ", ",", ";", '"', "=", "[", "]", ":", "%", "\\", "\x7f", "é", "\udcff", "\u0130", "*"),
    *("null", "unknown", "_hidden", "-1", "0", "9" * 400, "a" * 8000, "(" * 300, "\u0661.2.3.4"),
]
ADDRESSES = [
    *("192.0.2.1", "10.0.0.1", "10.0.0.1:80", "::ffff:10.0.0.1", "[2001:db8::1]:443"),
    *("2001:db8::2", "fe80::1%eth0", "1.2.3", "256.1.1.1", "for=192.0.2.1"),
    *('for="[::1]:80";by=x', "for=_x, for="),
    *(", ".join([entry] * 200) for entry in ("1.1.1.1", "for=1.1.1.1")),
]
HOSTS = [
    *("city.example.org", "City.Example.ORG:8000", "bücher.example", "xn--bcher-kva.example."),
    *("evil.example", "[::1]:80", "a..b", "xn--\xe9", "-a", "a" * 300 + ".example"),
]
VALUES = {
    "User-Agent": [CHROME, "curl/8.5.0", *(row.text for row in mistaken_people() + ai_agents())],
    "Host": HOSTS,
    "Origin": [f"https://{host}" for host in HOSTS] + ["https://[", "file://", "//", "https://u@h"],
    "X-Forwarded-Host": HOSTS,
    "X-Forwarded-For": ADDRESSES,
    "Forwarded": ADDRESSES,
    "X-Real-IP": ADDRESSES,
    "Authorization": ["Bearer undefined", "Bearer a.b.c", "Bearer " + "e30." * 3, "Basic eA=="],
    "Content-Type": ["application/json", "text/plain; charset=x", "image/png"],
    "Sec-CH-UA": ['"HeadlessChrome";v="128"', '"Chromium";v="128"'],
    "Sec-Purpose": ["prefetch", "prefetch;prerender", "none"],
    "Purpose": ["prefetch"],
    "X-Moz": ["prefetch"],
}
CRAWLERS_HEADERS = {"Sec-CH-UA", "Sec-Purpose", "Purpose", "X-Moz"}
LINES_OF_CRAWLERS = (0,) * 19 + (1,)
LINES = (0, 1, 1, 1, 1, 1, 1, 2)
BODIES = (b"", b"", b"{}", b'{"token":"a.b.c"}', b"[]", b"\xff", b'{"id":1}')
PEERS = ["10.0.0.1", "192.0.2.9", "2001:db8::9", "::ffff:10.0.0.1", None]
SETTINGS = [
    ("", "*"),
    ("X-Real-IP", "city.example.org, *.bücher.example"),
    ("Forwarded", "*"),
]


class Appended:
    def append(self, _: bytes, record: bytes, answered: OnResult) -> None:
        assert record
        asyncio.get_running_loop().call_soon(answered, None)


class Collector:
    def __init__(self, header: str, sites: str) -> None:
        metrics = CollectorMetrics(CollectorRegistry())
        self.metrics = metrics
        settings = {
            "CLIENT_ADDRESS_HEADER": header,
            "SITES": sites,
            "TRUSTED_PROXIES": "10.0.0.0/8",
        }
        headers, sessions = make_sessions(settings, cast("Appender", Appended()), metrics)
        self._answering = Answering(headers, metrics)
        self._route = Route("POST", "/sessions", "start", sessions.start)

    async def answer(self, headers: CIMultiDict[str], peer: str | None, body: bytes) -> int:
        """The status."""
        status: asyncio.Future[int] = asyncio.get_running_loop().create_future()

        def send(answer: Answer, lines: bytes) -> None:
            assert lines.startswith(b"Date: ")
            status.set_result(answer.status)

        self._answering.begin(self._route, Request(headers, peer, body), send)
        return await status


def combination(chosen: random.Random) -> CIMultiDict[str]:
    headers: CIMultiDict[str] = CIMultiDict()
    for name, values in VALUES.items():
        for _ in range(chosen.choice(LINES_OF_CRAWLERS if name in CRAWLERS_HEADERS else LINES)):
            # The first of a header is good; the others, and garbage, are as frequent together.
            kind = chosen.random()
            value = values[0] if kind < 0.5 else chosen.choice(values if kind < 0.9 else GARBAGE)
            if chosen.random() < 0.02:
                value += chosen.choice(GARBAGE)
            headers.add(name if chosen.random() < 0.9 else name.swapcase(), value)
    return headers


async def assert_answers(number: int) -> None:
    chosen = random.Random(6)  # noqa: S311 - the same each time
    collectors = [Collector(*settings) for settings in SETTINGS]
    statuses: Counter[int] = Counter()
    for _ in range(number):
        headers, peer = combination(chosen), chosen.choice(PEERS)
        body = chosen.choice(BODIES)
        status = await chosen.choice(collectors).answer(headers, peer, body)
        statuses[status] += 1
        assert status < 500, (dict(headers), peer)
    # All steps are reached. Otherwise the combinations are too wild to test anything.
    assert {201, 204, 400, 403, 415} <= set(statuses), statuses
    assert statuses[201] > number / 200
    counted = {
        sample.labels["reason"]
        for collector in collectors
        for metric in collector.metrics.ignored.collect()
        for sample in metric.samples
        if sample.name.endswith("_total") and sample.value
    }
    assert counted <= set(Reason)
    assert counted >= {Reason.CRAWLER, Reason.AI_AGENT, Reason.PREFETCH, Reason.HEADLESS}


async def test_a_few_combinations_of_headers_give_no_5xx_and_no_exception() -> None:
    await assert_answers(FEW)


@pytest.mark.long
async def test_100_000_combinations_of_headers_give_no_5xx_and_no_exception() -> None:
    await assert_answers(COMBINATIONS)
