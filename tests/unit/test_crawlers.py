"""collector/request/crawlers: no crawler is counted, and no person is mistaken for one."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict

from bench.crawlers import corpora
from bench.crawlers.corpora import Row, ai_agents, mistaken_people
from collector.request.crawlers import CrawlerFilter, Reason
from collector.request.crawlers import filter as crawler_filter
from collector.request.crawlers.filter import EXAMINED
from collector.request.headers import OnceEach
from contract.errors import Ignore

ENGINE = "AppleWebKit/537.36 (KHTML, like Gecko)"
IOS_ENGINE = "AppleWebKit/605.1.15 (KHTML, like Gecko)"


def chrome(system: str = "Windows NT 10.0; Win64; x64", name: str = "Chrome") -> str:
    return f"Mozilla/5.0 ({system}) {ENGINE} {name}/141.0.0.0 Safari/537.36"


CHROME = chrome()
FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"
IN_APP = f"Mozilla/5.0 (iPhone; CPU iPhone OS 15_1 like Mac OS X) {IOS_ENGINE} Mobile/15E148"
IPHONE = IN_APP.replace("Mobile/", "Version/15.1 Mobile/") + " Safari/604.1"
PIXEL = chrome("Linux; Android 14; Pixel 8").replace("Chrome/", "Version/4.0 Chrome/")
GOOGLEBOT = "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)"
SPIDER = (
    "Mozilla/5.0(Linux;Android 5.1.1;OPPO A33 Build/LMY47V;wv) AppleWebKit/537.36(KHTML,link "
    "Gecko) Version/4.0 Chrome/43.0.2357.121 Mobile Safari/537.36 LieBaoFast/4.51.3"
)
CRAWLERS = {
    Reason.CRAWLER: [
        GOOGLEBOT,
        f"Mozilla/5.0 {ENGINE[:-1]}; compatible; bingbot/2.0; +http://b.example) Chrome/116.0.1.1",
        "facebookexternalhit/1.1 (+http://www.facebook.com/externalhit_uatext.php)",
        *("Twitterbot/1.0", "Zapier", "WhatsApp/2.23.20.0", "mattermost-bot/1.1"),
        "Slackbot-LinkExpanding 1.0 (+https://api.slack.com/robots)",
        # A contact: mail, web, a domain.
        f"{CHROME} (a study, whom@example.org)",
        f"{CHROME} Some/1.0 https://example.org/why",
        *(f"{CHROME} Some/2.0 (example.com)", f"{CHROME} www.example.com"),
        # Something is added where browsers name the engine that theirs is like.
        CHROME.replace("like Gecko)", "like Gecko; Something)"),
        # What it does.
        f"{CHROME} SomeVerifier/3.0",
        # A misspelt word of browsers.
        CHROME.replace("Mozilla", "Mozlila"),
        # A crawler's name where a telephone's model could be.
        chrome("Macintosh; Mac OS X 10_15_7; TSM-turingos-1"),
        chrome("Linux; Android 9; Googlebot"),
        # The list's `OPPO A33` means this one, without spaces; it is also misspelt.
        *(SPIDER, SPIDER.replace("link", "like")),
    ],
    Reason.AI_AGENT: [f"Mozilla/5.0 {ENGINE}; compatible; GPTBot/1.2; +https://openai.com/gptbot"],
    Reason.HEADLESS: [
        chrome(name="HeadlessChrome"),
        "Mozilla/5.0 (Unknown; Linux x86_64) PhantomJS/2.1.1 Safari/538.1",
    ],
    Reason.MONITOR: [
        "Mozilla/5.0 (compatible; UptimeRobot/2.0; http://www.uptimerobot.com/)",
        *(f"{CHROME} DatadogSynthetics", "kube-probe/1.29"),
    ],
    Reason.HTTP_LIBRARY: [
        *("curl/8.5.0", "python-requests/2.32.3", "Go-http-client/2.0", "okhttp/4.12.0", "node"),
        "Lynx/2.8.8rel.2 libwww-FM/2.14 SSL-MM/1.4.1",  # a text browser
    ],
    Reason.NOT_A_BROWSER: [
        *("some-tool/1.2.3", "Some Tool/1.2 (a tool, on Linux)", "Report Runner", "Shooter 0.42"),
        *("Mozilla/5.0 (Some-PhysicalWeb)", "example.io - tool/0.1"),
        "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) SomeTool/2.0",
        # One word of a browser's, or a system without an engine.
        *("-", '"-"', "null", "Chrome/142.0.0.0", "Firefox", "Safari/537.36", "Windows NT 6.1"),
        *("Android", "[object Object]", "Mozilla", "Mozilla/5.0 ", "Mozilla/5.0 ()"),
        *("Mozilla/5.0 (compatible; Acme)", "Mozilla/5.0 (X11; Linux x86_64"),
        "Mozilla/5.0 (Windows NT 10.0; Win64; x64)",
        # A name alone.
        *("eMoney Advisor", "14", "Some Tool v 1.0", "some_tool_of_ours"),
        # Programs and telephones that run no script. A script sends the beacon.
        *("GOGGalaxyClient/2.0.20.39 (GOG Galaxy) (win10 x64)", "The Bat! 4.0.14", "MOT-385"),
        "SAMSUNG-SGH-C308/RAINBOW 3.0/WAP1.2 Profile/MIDP-2.0 Configuration/CLDC-1.0",
    ],
}
PEOPLE = [
    *(CHROME, FIREFOX, IPHONE, PIXEL, f"{CHROME} Edg/141.0.0.0"),
    # A telephone's maker, model or system whose name contains a crawler's.
    chrome("Linux; Android 13; CUBOT P60"),
    chrome("Linux; Android 8.1.0; XBot_Senior Build/O11019"),
    chrome("Linux; Android 7.1.1; M_bot_tab_1150"),
    chrome("Linux; Android 8.1.0; XBot Junior"),
    chrome("Linux; Android 4.1.1; MID7022 Build/GreenDemon_v1"),
    # A page within an app, whose name may say what a crawler does.
    f"{IN_APP} [FBAN/FBIOS;FBAV/480.0.0.30.109;FBDV/iPhone15,2;FBLC/nl_BE]",
    *(f"{PIXEL.replace(')', '; wv)', 1)} PriceScanner/2.1", f"{IN_APP} BankVerify/2.1"),
    CHROME.replace(" Chrome/", " LogCollector/1.4 Electron/38.0.0 Chrome/"),
    # An app that sends the request itself, with its telephone's system.
    *("some.de/1.1.22 (Android 2.3.4) LGE/LG-P690", "SomeApp/4.2 CFNetwork/1568.200 Darwin/24.1"),
    # A mail provider's browser, toolbars, a page that is being translated.
    "Mozilla/5.0 (Windows; U; Windows NT 6.0; de; rv:1.9) Gecko/2009 (WEB.DE/1.5) Firefox/3.5.6",
    *(f"{CHROME} Ant.com Toolbar 1.3", CHROME.replace(" Chrome/", " Seznam.cz/1.0.15 Chrome/")),
    f"{CHROME},gzip(gfe) (via translate.google.com)",
    # An emulated telephone.
    "Mozilla/5.0 (Linux; U; Android 4.2.2; en-us; Custom Phone - 4.2.2 - 768x1280 Build/JDQ39E)",
    # Televisions name their features as `(+DRM`, like a crawler's contact.
    f"{chrome('Linux; Andr0id 9; ATV R2')} HbbTV/1.5.1 (+DRM;BOTECH;ATV R2;Demonstration only;)",
    "HbbTV/1.5.1 (+DRM;LGE;43UM7000PLA;WEBOS4.5 05.00.03;W45_K5LP;DTV_W19P;)",
    "Opera/9.80 (J2ME/MIDP; Opera Mini/6.5.27510/34.1624; U; en) Presto/2.8.119 Version/11.10",
    # What CloudFront sends for everybody.
    "Amazon CloudFront",
    # An app that names itself before its telephone's browser.
    *(
        f"{app} {browser}"
        for app in (
            "SomeSDK/9.1 iOS/15.1 (iPhone) App/2.0 Hybrid uid_5F ftr_AI.SP",
            "SalesforceMobileSDK/9.1.1 android mobile/14 (Pixel 8) App/2.0 Hybrid",
            *("CityMonitor/1.0", "Wix/2.1 (de_DE)"),
        )
        for browser in (IPHONE, PIXEL)
    ),
    # The page that some tools add behind a browser.
    *(
        f"{browser} | {word}: https://www.example.org/en?a=b"
        for browser in (CHROME, FIREFOX, IPHONE, PIXEL)
        for word in ("Initiator", "Referer", "page")
    ),
]
FILTER = CrawlerFilter()


def admit(user_agent: str | None = CHROME, **others: str) -> str:
    headers = CIMultiDict({name.replace("_", "-"): value for name, value in others.items()})
    if user_agent is not None:
        headers["User-Agent"] = user_agent
    return FILTER.admit(headers)


def refusal(user_agent: str | None = CHROME, **others: str) -> str:
    with pytest.raises(Ignore) as caught:
        admit(user_agent, **others)
    return caught.value.reason


@pytest.mark.parametrize(
    ("user_agent", "reason"), [(text, reason) for reason in CRAWLERS for text in CRAWLERS[reason]]
)
def test_a_crawler_is_ignored_with_its_reason(user_agent: str, reason: Reason) -> None:
    assert refusal(user_agent) == reason


@pytest.mark.parametrize("user_agent", PEOPLE)
def test_a_persons_browser_is_admitted(user_agent: str) -> None:
    assert admit(user_agent) == user_agent


@pytest.mark.parametrize("noted", ["Tool (https://example.org)", "SomeBot: https://example.org/"])
@pytest.mark.parametrize("browser", [CHROME, FIREFOX, IPHONE, PIXEL])
def test_what_is_added_behind_a_browser_is_examined_unless_it_is_the_page(
    browser: str, noted: str
) -> None:
    assert FILTER.examine(f"{browser} | {noted}") == FILTER.examine(f"{browser} {noted}")


@pytest.mark.parametrize("browser", [IPHONE, PIXEL])
@pytest.mark.parametrize("name", ["Googlebot/2.1", "GPTBot/1.2", "okhttp/4.12", "SomeCrawler/1.0"])
def test_a_crawler_can_not_hide_before_a_telephones_browser(name: str, browser: str) -> None:
    assert FILTER.examine(f"{name} {browser}") is not None


@pytest.mark.parametrize("user_agent", [None, "", " ", "\t \t", " " * 5000 + CHROME])
def test_no_user_agent_is_ignored(user_agent: str | None) -> None:
    """An empty string must never be hashed as if it were a person."""
    assert refusal(user_agent) == Reason.NO_USER_AGENT


@pytest.mark.parametrize("row", mistaken_people(), ids=lambda row: row.family)
def test_a_known_mistake_of_the_list_is_not_made_and_no_crawler_can_hide_in_it(row: Row) -> None:
    """HbbTV BOTECH, CRONY, OPPO A33, Cronet, WhatsApp, Slack and Mattermost desktop, base64."""
    assert "c" in row.called, "stock crawlerdetect does not make this mistake: nothing is tested"
    assert FILTER.examine(row.text) is None
    assert FILTER.examine(f"{row.text} (compatible; Googlebot/2.1)") is not None


@pytest.mark.parametrize("row", ai_agents(), ids=lambda row: row.family)
def test_no_named_ai_agent_is_a_person(row: Row) -> None:
    assert FILTER.examine(row.text) is not None


def ignored(rows: list[Row]) -> list[str]:
    return [row.text for row in rows if FILTER.examine(row.text) is not None]


@pytest.mark.parametrize(
    ("sources", "least", "most"),
    [
        # Current browsers, by how often they were counted.
        ({"user-agents", "top-user-agents"}, 900, 0),
        ({"crawlerdetect"}, 19_000, 0),
        ({"random-user-agent"}, 2_900, 3),
        # Ten of these are a news reader's.
        ({"isbot-2"}, 2_600, 13),
    ],
    ids=["current", "crawlerdetect", "random-user-agent", "isbot-2"],
)
def test_few_browsers_and_devices_are_mistaken_for_crawlers(
    sources: set[str], least: int, most: int
) -> None:
    """No more than in bench/results/crawlers.md."""
    people = [row for row in corpora.people() if row.source in sources and row.runs_scripts]
    assert len(people) > least
    assert len(ignored(people)) <= most


def test_crawlers_that_other_lists_know_are_found() -> None:
    """No fewer than in bench/results/crawlers.md, except for rounding."""
    agents = corpora.agents()
    of_others, of_any = corpora.crawlers(agents), [row for row in agents if len(row.called) > 1]
    assert len(of_others) > 6_500
    assert len(of_any) > 8_000
    assert len(ignored(of_others)) >= 0.996 * len(of_others)
    assert len(ignored(of_any)) >= 0.996 * len(of_any)


@pytest.mark.parametrize("name", ["Sec-Purpose", "Purpose", "X-Purpose", "X-Moz"])
@pytest.mark.parametrize("value", ["prefetch", "prefetch;prerender", "Preview", "PREFETCH"])
def test_a_page_that_is_loaded_in_advance_is_no_visit(name: str, value: str) -> None:
    assert refusal(**{name: value}) == Reason.PREFETCH
    assert refusal(**{name.lower(): value}) == Reason.PREFETCH


BRANDS = '"Chromium";v="128", "Not;A=Brand";v="24", "HeadlessChrome";v="128"'


def test_other_headers_are_a_visits_unless_a_brand_is_headless() -> None:
    """A headless Chrome may hide in its User-Agent."""
    assert refusal(Sec_CH_UA=BRANDS) == Reason.HEADLESS
    assert admit(Sec_CH_UA=BRANDS.replace("Headless", "Google ")) == CHROME
    assert admit(Sec_Purpose="", Purpose="navigate") == CHROME
    # The package takes this for a crawler's, because of `bot`.
    assert admit(From="abbott@example.org") == CHROME


class CountingFilter(CrawlerFilter):
    def __init__(self) -> None:
        super().__init__()
        self.examined: list[str] = []

    def examine(self, user_agent: str) -> Reason | None:
        self.examined.append(user_agent)
        return super().examine(user_agent)


def test_a_long_user_agent_is_examined_as_far_as_it_is_hashed_and_admitted_whole() -> None:
    counting = CountingFilter()
    long = CHROME + "a" * 8000
    assert counting.admit(OnceEach({"user-agent": long})) == long
    assert counting.examined == [long[:EXAMINED]]


def test_a_user_agent_is_examined_once_and_cached_verdicts_are_bounded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(crawler_filter, "_VERDICTS", 2)
    counting = CountingFilter()
    for user_agent in ("a", "b", "a", "c", "c", "a"):
        counting.reason(user_agent)
        assert len(counting._verdicts) <= 2
    assert counting.examined == ["a", "b", "c", "a"]


def test_no_user_agent_is_cached() -> None:
    """A verdict is cached under a number."""
    counting = CountingFilter()
    counting.reason(CHROME)
    assert list(counting._verdicts) == [hash(CHROME)]


@given(
    st.text(min_size=1, max_size=60)
    | st.text("Mozila/5.0 (bot)[]{}@:;,+-_=\udcff\x00\x85", max_size=60)
)
def test_any_user_agent_is_admitted_whole_or_ignored_for_a_known_reason(text: str) -> None:
    end: str
    try:
        end = FILTER.admit(OnceEach({"user-agent": text}))
    except Ignore as ignore:
        end = Reason(ignore.reason)
    assert end == text or isinstance(end, Reason)


PIECES = [
    *("a", "0", "_", "-", " ", "/", ".", ";", "@", "+", "(", "mozilla/5.0 (", "compatible; "),
    *("like gecko", "java", "newsblur ", "cpu iphone os 1", "mac os x 1", "opera mini/11.11.1/"),
    *("go 1", "y!j-a", "http", "super/1", "aZ9", "aA1bB2", "slack/", "applewebkit/", "chrome/"),
    *("a@", "gecko;", "compatible;", "a.b", "a-b", *"\u0130\u0131\u017f\u212a\u0660"),
]


@given(st.lists(st.sampled_from(PIECES), min_size=1, max_size=6), st.integers(0, 40))
def test_no_8_kb_user_agent_takes_long(pieces: list[str], prefix: int) -> None:
    """Repetitions make expressions slow. The best of three counts: others run here too."""
    text = ("x" * prefix + "".join(pieces) * 8192)[:8192]
    best = 1.0
    for _ in range(3):
        started = time.process_time()
        FILTER.examine(text[:EXAMINED])
        best = min(best, time.process_time() - started)
    # Fifty times the slowest that was measured; crawlerdetect itself takes seconds.
    assert best < 0.1
