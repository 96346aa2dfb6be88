"""collector/crawlers: no crawler is counted, and no person is taken for one."""

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

CHROME = (
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) "
    "Chrome/141.0.0.0 Safari/537.36"
)
BINGBOT = (
    "Mozilla/5.0 AppleWebKit/537.36 (KHTML, like Gecko; compatible; bingbot/2.0; "
    "+http://www.bing.com/bingbot.htm) Chrome/116.0.1938.76 Safari/537.36"
)
GPTBOT = (
    "Mozilla/5.0 AppleWebKit/537.36 (KHTML, like Gecko); compatible; GPTBot/1.2; "
    "+https://openai.com/gptbot"
)
CRAWLERS = [
    (
        "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)",
        Reason.CRAWLER,
    ),
    (BINGBOT, Reason.CRAWLER),
    ("facebookexternalhit/1.1 (+http://www.facebook.com/externalhit_uatext.php)", Reason.CRAWLER),
    ("Twitterbot/1.0", Reason.CRAWLER),
    ("WhatsApp/2.23.20.0", Reason.CRAWLER),
    ("Slackbot-LinkExpanding 1.0 (+https://api.slack.com/robots)", Reason.CRAWLER),
    ("mattermost-bot/1.1", Reason.CRAWLER),
    (GPTBOT, Reason.AI_AGENT),
    (CHROME.replace(" Chrome/", " HeadlessChrome/"), Reason.HEADLESS),
    ("Mozilla/5.0 (Unknown; Linux x86_64) PhantomJS/2.1.1 Safari/538.1", Reason.HEADLESS),
    ("Mozilla/5.0 (compatible; UptimeRobot/2.0; http://www.uptimerobot.com/)", Reason.MONITOR),
    (f"{CHROME} DatadogSynthetics", Reason.MONITOR),
    ("kube-probe/1.29", Reason.MONITOR),
    ("curl/8.5.0", Reason.HTTP_LIBRARY),
    ("Wget/1.21.4", Reason.HTTP_LIBRARY),
    ("python-requests/2.32.3", Reason.HTTP_LIBRARY),
    ("Go-http-client/2.0", Reason.HTTP_LIBRARY),
    ("okhttp/4.12.0", Reason.HTTP_LIBRARY),
    ("node", Reason.HTTP_LIBRARY),
    ("some-tool/1.2.3", Reason.NOT_A_BROWSER),
    ("Some Tool/1.2 (a tool, on Linux)", Reason.NOT_A_BROWSER),
    ("Some/production", Reason.NOT_A_BROWSER),
    ("custom_user_agent", Reason.NOT_A_BROWSER),
    ("Library Of Some Web Pages", Reason.NOT_A_BROWSER),
    ("Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) SomeTool/2.0", Reason.NOT_A_BROWSER),
    ("Mozilla/5.0 (Some-PhysicalWeb)", Reason.NOT_A_BROWSER),
    # Whom to ask: of mail, of the web, a name.
    (f"{CHROME} (a study, whom@example.org)", Reason.CRAWLER),
    (f"{CHROME} Some/1.0 https://example.org/why", Reason.CRAWLER),
    (f"{CHROME} Some/2.0 (example.com)", Reason.CRAWLER),
    (f"{CHROME} www.example.com", Reason.CRAWLER),
    ("example.io - tool/0.1", Reason.NOT_A_BROWSER),
    ("Report Runner", Reason.NOT_A_BROWSER),
    ("Shooter 0.42", Reason.NOT_A_BROWSER),
    # Something is added where browsers say what their engine is like.
    (CHROME.replace("like Gecko)", "like Gecko; Something)"), Reason.CRAWLER),
    # What it does.
    (f"{CHROME} SomeVerifier/3.0", Reason.CRAWLER),
    # A browser's words, misspelt.
    (CHROME.replace("Mozilla", "Mozlila"), Reason.CRAWLER),
    ("Mozilla/5.0 (compatible; Acme)", Reason.NOT_A_BROWSER),
]
PEOPLE = [
    CHROME,
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
    f"{CHROME} Edg/141.0.0.0",
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
    # What a program does, in an app's name.
    (
        "Mozilla/5.0 (Linux; Android 15; Pixel 9 Build/AP4A; wv) AppleWebKit/537.36 (KHTML, like "
        "Gecko) Version/4.0 Chrome/141.0.0.0 Mobile Safari/537.36 PriceScanner/2.1"
    ),
    (
        "Mozilla/5.0 (iPhone; CPU iPhone OS 18_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like "
        "Gecko) Mobile/15E148 BankVerify/2.1"
    ),
    CHROME.replace(" Chrome/", " LogCollector/1.4 Electron/38.0.0 Chrome/"),
    # A telephone's model that ends as a crawler's name does, and a mail provider's own browser.
    CHROME.replace("Windows NT 10.0; Win64; x64", "Linux; Android 8.1.0; XBot_Senior Build/O11019"),
    CHROME.replace("Windows NT 10.0; Win64; x64", "Linux; Android 7.1.1; M_bot_tab_1150"),
    CHROME.replace("Windows NT 10.0; Win64; x64", "Linux; Android 8.1.0; XBot Junior"),
    (
        "Mozilla/5.0 (Linux; Andr0id 9; ATV R2) AppleWebKit/537.36 (KHTML, like Gecko) "
        "Chrome/77.0.3865.120 Safari/537.36 HbbTV/1.5.1 (+DRM;BOTECH;ATV R2;Demonstration only;)"
    ),
    (
        "Mozilla/5.0 (Windows; U; Windows NT 6.0; de; rv:1.9.1.6) Gecko/20091201 (WEB.DE/1.5) "
        "Firefox/3.5.6 (.NET CLR 3.5.30729)"
    ),
    # An app that sends the request itself, by its telephone's system.
    "some.de/1.1.22 (Android 2.3.4) LGE/LG-P690",
    "SomeApp/4.2 CFNetwork/1568.200.51 Darwin/24.1.0",
    # A telephone whose system has a crawler's name, toolbars in a browser, and a page that is being
    # translated.
    CHROME.replace(
        "Windows NT 10.0; Win64; x64", "Linux; Android 4.1.1; MID7022 Build/GreenDemon_v1"
    ),
    f"{CHROME},gzip(gfe) (via translate.google.com)",
    f"{CHROME} Ant.com Toolbar 1.3",
    CHROME.replace(" Chrome/", " Seznam.cz/1.0.15 Chrome/"),
    # An emulated telephone's interface.
    (
        "Mozilla/5.0 (Linux; U; Android 4.2.2; en-us; Custom Phone - 4.2.2 - API 17 - 768x1280 "
        "Build/JDQ39E)"
    ),
    # Televisions call their features `(+DRM`, as crawlers their address.
    "HbbTV/1.5.1 (+DRM;LGE;43UM7000PLA;WEBOS4.5 05.00.03;W45_K5LP;DTV_W19P;)",
    "Opera/9.80 (J2ME/MIDP; Opera Mini/6.5.27510/34.1624; U; en) Presto/2.8.119 Version/11.10",
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


@pytest.mark.parametrize(("user_agent", "reason"), CRAWLERS)
def test_a_crawler_is_ignored_for_what_it_is(user_agent: str, reason: Reason) -> None:
    assert refusal(user_agent) == reason


@pytest.mark.parametrize("user_agent", PEOPLE)
def test_a_persons_browser_is_admitted(user_agent: str) -> None:
    assert admit(user_agent) == user_agent


IPHONE = (
    "Mozilla/5.0 (iPhone; CPU iPhone OS 15_1 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like "
    "Gecko) Version/15.1 Mobile/15E148 Safari/604.1"
)
PIXEL = (
    "Mozilla/5.0 (Linux; Android 14; Pixel 8) AppleWebKit/537.36 (KHTML, like Gecko) Version/4.0 "
    "Chrome/130.0.0.0 Mobile Safari/537.36"
)


FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"


@pytest.mark.parametrize("browser", [CHROME, FIREFOX, IPHONE, PIXEL])
def test_what_a_tool_notes_behind_a_browser_makes_it_no_crawler(browser: str) -> None:
    for word in ("Initiator", "Referer", "page"):
        assert FILTER.examine(f"{browser} | {word}: https://www.example.org/en?a=b") is None
    for noted in ("Tool (https://example.org)", "SomeBot: https://example.org/", "Initiator: curl"):
        assert FILTER.examine(f"{browser} | {noted}") == FILTER.examine(f"{browser} {noted}")


@pytest.mark.parametrize("browser", [IPHONE, PIXEL])
@pytest.mark.parametrize(
    "app",
    [
        "SomeSDK/9.1 iOS/15.1 (iPhone) App/2.0 Hybrid uid_5F ftr_AI.SP",
        "SalesforceMobileSDK/9.1.1 android mobile/14 (Pixel 8) App/2.0 Hybrid",
        "CityMonitor/1.0",
        "Wix/2.1 (de_DE)",
    ],
)
def test_an_app_that_names_itself_before_its_telephones_browser_is_a_persons(
    app: str, browser: str
) -> None:
    assert FILTER.examine(f"{app} {browser}") is None


@pytest.mark.parametrize("browser", [IPHONE, PIXEL])
@pytest.mark.parametrize("name", ["Googlebot/2.1", "GPTBot/1.2", "okhttp/4.12", "SomeCrawler/1.0"])
def test_a_crawler_can_not_hide_before_a_telephones_browser(name: str, browser: str) -> None:
    assert FILTER.examine(f"{name} {browser}") is not None


@pytest.mark.parametrize(
    "user_agent",
    [
        *(
            "-",
            '"-"',
            "?",
            "null",
            "NULL",
            "Chrome",
            "Chrome/142.0.0.0",
            "Firefox",
            "Safari/537.36",
        ),
        *("Windows NT 6.1", "Windows", "Android", "Internet Explorer 11.0", "[object Object]"),
        *("Mozilla", "Mozilla/5.0", "Mozilla/4.0", "Mozilla/5.0 ", "Mozilla/5.0 ()"),
        *("Mozilla/5.0 (compatible)", "Mozilla/5.0 (compatible;)", "Mozilla/5.0..."),
        "Mozilla/5.0 (Windows NT 10.0; Win64; x64)",
        "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7)",
        "Mozilla/5.0 (X11; Linux x86_64",
    ],
)
def test_one_word_of_a_browsers_or_a_system_without_an_engine_is_no_browser(
    user_agent: str,
) -> None:
    assert FILTER.examine(user_agent) is Reason.NOT_A_BROWSER


@pytest.mark.parametrize(
    "user_agent",
    [
        # A name alone.
        *("Trove", "eMoney Advisor", "Zapier", "14", "Some Tool v 1.0", "some_tool_of_ours"),
        # Programs that show no page: a game shop's, a mail reader.
        *("GOGGalaxyClient/2.0.20.39 (GOG Galaxy) (win10 x64)", "The Bat! 4.0.14"),
        # Browsers for text, and telephones from before scripts.
        *("Lynx/2.8.8rel.2 libwww-FM/2.14 SSL-MM/1.4.1", "w3m/0.5.3", "MOT-385", "ALCATEL-OH1"),
        "SAMSUNG-SGH-C308/RAINBOW 3.0/WAP1.2 Profile/MIDP-2.0 Configuration/CLDC-1.0",
    ],
)
def test_who_can_not_run_a_script_is_no_browser(user_agent: str) -> None:
    """A beacon is sent by a script: who sends one without is a program."""
    assert FILTER.examine(user_agent) is not None


def test_what_cloudfront_sends_for_everybody_is_no_crawlers() -> None:
    assert FILTER.examine("Amazon CloudFront") is None


@pytest.mark.parametrize("user_agent", [None, "", " ", "\t \t", " " * 5000 + CHROME])
def test_no_user_agent_is_ignored(user_agent: str | None) -> None:
    """An empty string must never be hashed as if it were a person."""
    assert refusal(user_agent) == Reason.NO_USER_AGENT


@pytest.mark.parametrize("row", mistaken_people(), ids=lambda row: row.family)
def test_a_known_mistake_of_the_list_is_not_made(row: Row) -> None:
    """HbbTV BOTECH, CRONY, OPPO A33, Cronet, WhatsApp, Slack and Mattermost desktop, base64."""
    assert "c" in row.called, "stock crawlerdetect does not make this mistake: nothing is guarded"
    assert FILTER.examine(row.text) is None


def test_a_spider_that_calls_itself_a_telephone_is_one() -> None:
    """What crawlerdetect's list means by `OPPO A33`: without spaces, and misspelt."""
    spider = (
        "Mozilla/5.0(Linux;Android 5.1.1;OPPO A33 Build/LMY47V;wv) AppleWebKit/537.36(KHTML,link "
        "Gecko) Version/4.0 Chrome/43.0.2357.121 Mobile Safari/537.36 LieBaoFast/4.51.3"
    )
    assert FILTER.examine(spider) is not None
    assert FILTER.examine(spider.replace("link", "like")) is not None


@pytest.mark.parametrize(
    "text",
    [
        CHROME.replace(
            "Windows NT 10.0; Win64; x64", "Macintosh; Mac OS X 10_15_7; TSM-turingos-1"
        ),
        CHROME.replace("Windows NT 10.0; Win64; x64", "Linux; Android 9; Googlebot"),
    ],
)
def test_a_crawlers_name_where_a_model_could_be_is_found(text: str) -> None:
    assert FILTER.examine(text) is not None


@pytest.mark.parametrize("row", mistaken_people(), ids=lambda row: row.family)
def test_a_crawler_can_not_hide_behind_a_known_mistake(row: Row) -> None:
    assert FILTER.examine(f"{row.text} (compatible; Googlebot/2.1)") is not None


@pytest.mark.parametrize("row", ai_agents(), ids=lambda row: row.family)
def test_no_named_ai_agent_is_a_person(row: Row) -> None:
    assert FILTER.examine(row.text) is not None


def taken(rows: list[Row]) -> list[str]:
    return [row.text for row in rows if FILTER.examine(row.text) is not None]


def test_no_browser_that_was_counted_is_taken_for_a_crawlers() -> None:
    counted = [row for row in corpora.people() if row.source in {"user-agents", "top-user-agents"}]
    assert len(counted) > 900
    assert taken(counted) == []


@pytest.mark.parametrize(
    ("source", "least", "most"),
    [
        ("crawlerdetect", 19_000, 0),
        ("random-user-agent", 2_900, 3),
        # Ten of them are a reader of news.
        ("isbot-2", 2_600, 13),
    ],
)
def test_few_older_browsers_and_devices_are_taken_for_crawlers(
    source: str, least: int, most: int
) -> None:
    """No more than in bench/results/crawlers.md."""
    people = [row for row in corpora.people() if row.source == source and row.runs_scripts]
    assert len(people) > least
    assert len(taken(people)) <= most


def test_crawlers_that_other_lists_know_are_found() -> None:
    """No fewer than in bench/results/crawlers.md, but for rounding."""
    agents = corpora.agents()
    of_others, of_any = corpora.crawlers(agents), [row for row in agents if len(row.called) > 1]
    assert len(of_others) > 6_500
    assert len(of_any) > 8_000
    assert len(taken(of_others)) >= 0.996 * len(of_others)
    assert len(taken(of_any)) >= 0.996 * len(of_any)


@pytest.mark.parametrize("name", ["Sec-Purpose", "Purpose", "X-Purpose", "X-Moz"])
@pytest.mark.parametrize("value", ["prefetch", "prefetch;prerender", "Preview", "PREFETCH"])
def test_a_page_that_is_loaded_ahead_is_no_visit(name: str, value: str) -> None:
    assert refusal(**{name: value}) == Reason.PREFETCH
    assert refusal(**{name.lower(): value}) == Reason.PREFETCH


def test_another_purpose_is_a_visit() -> None:
    assert admit(Sec_Purpose="", Purpose="navigate") == CHROME


def test_a_headless_chrome_that_hides_in_its_user_agent_is_told_by_its_brands() -> None:
    brands = '"Chromium";v="128", "Not;A=Brand";v="24", "HeadlessChrome";v="128"'
    assert refusal(Sec_CH_UA=brands) == Reason.HEADLESS
    assert admit(Sec_CH_UA=brands.replace("Headless", "Google ")) == CHROME


def test_an_address_of_mail_in_another_header_makes_nobody_a_crawler() -> None:
    """The package flags a From with `bot` in it: abbott@example.org is a person's."""
    assert admit(From="abbott@example.org") == CHROME


def test_a_verdict_is_the_same_when_it_is_remembered() -> None:
    for _ in range(2):
        assert admit(CHROME) == CHROME
        assert refusal(CRAWLERS[0][0]) == Reason.CRAWLER


@pytest.mark.parametrize("user_agent", [CRAWLERS[0][0].upper(), CRAWLERS[0][0].lower()])
def test_a_crawler_is_known_in_any_case(user_agent: str) -> None:
    assert refusal(user_agent) == Reason.CRAWLER


def test_every_reason_is_a_word_that_a_metric_can_bear() -> None:
    assert all(reason.replace("_", "").isalpha() for reason in Reason)


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


def test_a_user_agent_that_comes_again_is_not_examined_again() -> None:
    counting = CountingFilter()
    for _ in range(3):
        assert counting.reason(CHROME) is None
        assert counting.reason("curl/8.5.0") is Reason.HTTP_LIBRARY
    assert counting.examined == [CHROME, "curl/8.5.0"]


def test_verdicts_are_kept_in_bounded_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crawler_filter, "_VERDICTS", 2)
    counting = CountingFilter()
    for user_agent in ("a", "b", "c", "a", "d", "e", "a", "f", "g", "b"):
        counting.reason(user_agent)
        assert len(counting._recent) + len(counting._earlier) <= 4
    # `a`, which is asked for, stays; `b` has to go.
    assert counting.examined == ["a", "b", "c", "d", "e", "f", "g", "b"]


def test_no_user_agent_is_kept() -> None:
    """A verdict is kept under a number."""
    counting = CountingFilter()
    counting.reason(CHROME)
    assert list(counting._recent) == [hash(CHROME)]


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
    *(
        "a@",
        "gecko;",
        "compatible;",
        "a.b",
        "a-b",
        "\u0130",
        "\u0131",
        "\u017f",
        "\u212a",
        "\u0660",
    ),
]


@given(st.lists(st.sampled_from(PIECES), min_size=1, max_size=6), st.integers(0, 40))
def test_no_8_kb_user_agent_takes_long(pieces: list[str], prefix: int) -> None:
    """Repetitions are what makes expressions slow. The best of three, since others run here too."""
    text = ("x" * prefix + "".join(pieces) * 8192)[:8192]
    best = 1.0
    for _ in range(3):
        started = time.process_time()
        FILTER.examine(text[:EXAMINED])
        best = min(best, time.process_time() - started)
    # Fifty times the measured worst; crawlerdetect itself takes seconds.
    assert best < 0.1
