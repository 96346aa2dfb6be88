"""collector/crawlers.py: no crawler is counted, and no person is taken for one."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector import crawlers
from collector.crawlers import CrawlerFilter
from contract.errors import Ignore

CRAWLERS = [
    "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)",
    (
        "Mozilla/5.0 AppleWebKit/537.36 (KHTML, like Gecko; compatible; bingbot/2.0; "
        "+http://www.bing.com/bingbot.htm) Chrome/116.0.1938.76 Safari/537.36"
    ),
    (
        "Mozilla/5.0 (Linux; Android 6.0.1; Nexus 5X Build/MMB29P) AppleWebKit/537.36 (KHTML, like "
        "Gecko) Chrome/120.0.0.0 Mobile Safari/537.36 (compatible; Googlebot/2.1; "
        "+http://www.google.com/bot.html)"
    ),
    (
        "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/537.36 (KHTML, like Gecko) "
        "HeadlessChrome/120.0.0.0 Safari/537.36"
    ),
    "Mozilla/5.0 (compatible; YandexBot/3.0; +http://yandex.com/bots)",
    "facebookexternalhit/1.1 (+http://www.facebook.com/externalhit_uatext.php)",
    (
        "Mozilla/5.0 AppleWebKit/537.36 (KHTML, like Gecko); compatible; GPTBot/1.2; "
        "+https://openai.com/gptbot"
    ),
    "Mozilla/5.0 (compatible; AhrefsBot/7.0; +http://ahrefs.com/robot/)",
    "Twitterbot/1.0",
    "Slackbot-LinkExpanding 1.0 (+https://api.slack.com/robots)",
    "curl/8.5.0",
    "Wget/1.21.4",
    "python-requests/2.32.3",
    "Go-http-client/2.0",
]
PEOPLE = [
    (
        "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) "
        "Chrome/141.0.0.0 Safari/537.36"
    ),
    "Mozilla/5.0 (X11; Linux x86_64; rv:142.0) Gecko/20100101 Firefox/142.0",
    (
        "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) "
        "Version/18.5 Safari/605.1.15"
    ),
    (
        "Mozilla/5.0 (iPhone; CPU iPhone OS 18_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like "
        "Gecko) Version/18.5 Mobile/15E148 Safari/604.1"
    ),
    (
        "Mozilla/5.0 (Linux; Android 15; Pixel 9) AppleWebKit/537.36 (KHTML, like Gecko) "
        "Chrome/141.0.0.0 Mobile Safari/537.36"
    ),
    (
        "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) "
        "Chrome/141.0.0.0 Safari/537.36 Edg/141.0.0.0"
    ),
    # A telephone whose maker's name ends as a crawler's does.
    (
        "Mozilla/5.0 (Linux; Android 13; CUBOT P60) AppleWebKit/537.36 (KHTML, like Gecko) "
        "Chrome/141.0.0.0 Mobile Safari/537.36"
    ),
    # A page that is opened from within another app.
    (
        "Mozilla/5.0 (iPhone; CPU iPhone OS 18_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like "
        "Gecko) Mobile/15E148 [FBAN/FBIOS;FBAV/480.0.0.30.109;FBDV/iPhone15,2;FBLC/nl_BE]"
    ),
]


FILTER = CrawlerFilter()


@pytest.fixture(scope="module")
def people() -> CrawlerFilter:
    return FILTER


@pytest.mark.parametrize("user_agent", CRAWLERS)
def test_a_crawler_is_ignored(people: CrawlerFilter, user_agent: str) -> None:
    with pytest.raises(Ignore) as caught:
        people.admit(user_agent)
    assert caught.value.reason == "crawler"


@pytest.mark.parametrize("user_agent", PEOPLE)
def test_a_persons_browser_is_admitted(people: CrawlerFilter, user_agent: str) -> None:
    assert people.admit(user_agent) == user_agent


@pytest.mark.parametrize("user_agent", [None, "", " ", "\t \t"])
def test_no_user_agent_is_ignored(people: CrawlerFilter, user_agent: str | None) -> None:
    """An empty string must never be hashed as if it were a person."""
    with pytest.raises(Ignore) as caught:
        people.admit(user_agent)
    assert caught.value.reason == "no_user_agent"


def test_a_verdict_is_the_same_when_it_is_remembered(people: CrawlerFilter) -> None:
    for _ in range(2):
        assert people.admit(PEOPLE[0]) == PEOPLE[0]
        with pytest.raises(Ignore):
            people.admit(CRAWLERS[0])


@pytest.mark.parametrize("user_agent", [CRAWLERS[0].upper(), CRAWLERS[0].lower()])
def test_a_crawler_is_known_in_any_case(people: CrawlerFilter, user_agent: str) -> None:
    with pytest.raises(Ignore):
        people.admit(user_agent)


@given(st.text(min_size=1, max_size=60))
def test_any_user_agent_is_admitted_whole_or_ignored(text: str) -> None:
    try:
        end = FILTER.admit(text)
    except Ignore as ignore:
        end = ignore.reason
    assert end in {text, "crawler", "no_user_agent"}


class RecordingDetector:
    """Stands for the library, and says no crawler is one."""

    examined: list[str]

    def __init__(self) -> None:
        type(self).examined = []

    def is_crawler(self, user_agent: str) -> bool:
        self.examined.append(user_agent)
        return False


def test_a_long_user_agent_is_examined_in_part_and_admitted_whole(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The library's expressions would hold the process for seconds over 8 KB."""
    monkeypatch.setattr(crawlers, "CrawlerDetect", RecordingDetector)
    long = PEOPLE[0] + "a" * 8000
    assert CrawlerFilter().admit(long) == long
    (examined,) = RecordingDetector.examined
    assert long.startswith(examined)
    assert len(PEOPLE[0]) < len(examined) <= 1024


def test_a_user_agent_that_comes_again_is_not_examined_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(crawlers, "CrawlerDetect", RecordingDetector)
    people = CrawlerFilter()
    for _ in range(3):
        people.admit(PEOPLE[0])
    assert RecordingDetector.examined == [PEOPLE[0]]


def test_verdicts_are_kept_in_bounded_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crawlers, "CrawlerDetect", RecordingDetector)
    monkeypatch.setattr(crawlers, "_VERDICTS", 2)
    people = CrawlerFilter()
    for user_agent in ("a", "b", "c", "a"):
        people.admit(user_agent)
    assert RecordingDetector.examined == ["a", "b", "c", "a"]
