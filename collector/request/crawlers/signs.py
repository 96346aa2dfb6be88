"""Signs of crawlers that crawlerdetect's list lacks, and what kind a crawler is.

Expressions in lower case, for `pattern_tree`, which is fast where they begin with a letter, and not
with a class: one that does makes all of them slow. More of them are in `names`.
"""

import re
from collections.abc import Mapping, Sequence

from collector.request.crawlers.names import AI_AGENTS, EARLIER, JOBS, SERVICES, TOOLS
from collector.request.crawlers.pattern_tree import SearchTree
from collector.request.crawlers.reason import Reason

_MONITOR = (
    "uptime",
    "pingdom",
    "statuscake",
    "site24x7",
    "newrelic",
    "datadog",
    "checkly",
    "uptrends",
    "gtmetrix",
    "speedcurve",
    "webpagetest",
    "ptst/",
    "page ?speed",
    "lighthouse",
    "catchpoint",
    "dynatrace",
    "ruxit",
    "nagios",
    "check_http",
    "zabbix",
    "icinga",
    "better ?stack",
    "hetrixtools",
    "freshping",
    "updown\\.io",
    "cron-job\\.org",
    "healthcheck",
    "health[ -]?check",
    "kube-probe",
    "googlehc",
    "health probe",
    "blackbox[ -]exporter",
    "^prometheus",
    "^grafana",
    "synthetic",
    "hyperping",
    "ohdear",
    "montastic",
    "nodeping",
    "pingping",
    "binarycanary",
    "site ?monitor",
    "monitoring",
    "monsido",
    "siteimprove",
    "^solarwinds",
    "compatible; splunk",
    "appinsights\\)",
    "^alwayson",
    "^observepoint",
    "cloudflare-(healthchecks|speedtest|csup)",
    "bugsnag",
    "noibu",
    "sentryuptime",
)
_HEADLESS = (
    "headless",
    "phantomjs",
    "slimerjs",
    "casperjs",
    "puppeteer",
    "playwright",
    "selenium",
    "webdriver",
    "cypress/",
    "lightpanda",
    "htmlunit",
    "zombie\\.js",
    "jsdom/",
    "nightmare/",
    "browserless",
    "browserbase",
    "rendertron",
    "prerender",
    "wkhtmlto",
    "testcafe",
    "ghostinspector",
    "collapsify",
)
_HTTP_LIBRARY = (
    "okhttp",
    "python-(requests|urllib|httpx|opengraph)",
    "^python",
    "aiohttp/",
    "^axios/",
    "^got[ /(]",
    "node-(fetch|superagent|urllib)",
    "^node(\\.js)?($|[/ ])",
    "undici",
    "^bun/",
    "^deno/",
    "libcurl",
    "^curl",
    "^wget",
    "libwww(?!-fm)(?!/[\\d.]+_mosaic)",
    "lwp::",
    "go-http-client",
    "^go[ -]resty",
    "^java/",
    "javaws",
    "java-http-client",
    "httpclient",
    "http-client",
    "http client",
    "guzzle",
    "^ruby",
    "^rest-client",
    "^faraday",
    "^httparty",
    "typhoeus",
    "^reqwest",
    "^ureq",
    "^hyper/",
    "^isahc",
    "^dart",
    "postman",
    "insomnia/",
    "httpie",
    "^alamofire",
    "^httpx",
    "^scrapy",
    "mechanize",
    "^jakarta",
    "winhttp",
    "^colly",
    "unirest",
    "restsharp",
    "^ktor",
    "^vert\\.x",
    "^feign",
    "hackney/",
    "^perl",
    "^php",
    "^symfony",
    "^k6/",
    "^vegeta",
    "^locust",
    "apachebench",
    "^download ninja",
)
_DOMAINS = (
    *("com", "io", "org", "net", "ai", "fr", "eu", "dev", "app", "ru", "win", "uk", "pl", "nl"),
    "info",
)
# What crawlers do. Many are isbot's words: those that take no browser of the corpora.
_JOBS = (
    "abuse",
    "archive",
    "audit",
    "check(er|$|[ /;)_-])",
    "cloudflare",
    "favicon",
    "feed(?<!buzzfeed)",
    "harvest",
    "indexer",
    "insight",
    "( |-)image ?proxy",
    "( |-)link ?proxy",
    "( |-)url ?proxy",
    "imageproxy",
    "link-?check",
    "monitor",
    "(page|link|url)[ -]?preview",
    "preview(er|bot|-tool)",
    "cloudflareradar",
    "-radar(?<!htc-radar)",
    "parser",
    "prefetch proxy",
    "research(scan|agent|er)",
    "rss($|[ /;)-])",
    "scan(?<!camscan)(?!pal|ia)",
    "-screenshot$",
    "scrap(er|ing|e[ /])",
    "searchengine",
    "security-(center|research)",
    "seo(lyt|[ -]?(tool|check|bot|analy))",
    "unfurl",
    "webhook",
    # Whose it is.
    *(f"\\.{domain}/v?\\d(?<!mail\\.com/\\d)" for domain in _DOMAINS),
    "\\.de/v?\\d(?<!web\\.de/\\d)",  # WEB.DE gives a browser to its readers
    "watch(er/|agent)",
    "-hostname-verification",
    "( |-)api($|/| (?!\\d))",
    "com agent\\)",
    "^[a-z]*search(er[a-z]*)?($|[ /])",
    "^hello,? ?world",
    "( |-)proxy\\)",
    "-snapshot",
    "( |-)tools($|[ /;)])",
    "^[a-z]+::",
    "^apple-pubsub",
    "lookup",
    "\\.ec2$",
    "^itms",
    "crawler",
    "spider[/;)]",
    "^[a-z]*search-\\d",
    "^user agent ",
    "(_|-)security$",
    "<script>",
    "user agent[;)](?<=; user agent.)",
    "useragent;(?<=; useragent;)",
    "^useragent: ",
    "^fake_user_agent",
    "^<",
    "chtml proxy",
    "fetch \\d",
    "splash version",
    "dlc/\\d",
    "^netapi",
    "geckobot",
    "^linux gnu",
    "^(url|abcd?|asdf|undefined|none|nil|unknown|empty|foobar|anonymous|hacker|qwerty)$",
    # What attacks: it is no name at all.
    "0day|botnet|h4ck|r00t|pwned",
    "\\$\\{|\\{\\{|jndi:",
    "^0x",
    # A system that is none, a time that no browser tells; a browser's words, misspelt.
    "x11; windows",
    "time/\\d{13}$",
    "mozlila|bulid/|moblie|mozila/|khtml, ?link gecko",
)
_CRAWLER = (
    # It says that it is compatible with what it names.
    "gecko[;)]? ?;? ?compatible; ",
    # It has something to add where browsers say what their engine is like.
    "khtml, like gecko[;,] ?(?!safari|version|gzip|googleweblight|chrom|mobile|hevc)[a-z]",
    "firefox mutant",
    "^mozilla/5\\.0(,|/[a-z]+/\\d)",
    "^mozilla/[45]\\.0 ?\\(compatible\\);",
    "^mozilla/4\\.0 ?\\(compatible; [a-z]{5,}\\)$",
    # Those that say none of it.
    "hotjar",
    "sindup/",
    "ps_daily/",
    "criticalcss",
    "bw/1\\.\\d; ",
    "daumoa",
    "twilioproxy",
    "^mozilla/5\\.0; [a-z]+\\.[a-z]+/\\d",
)


# A page within an app: Android's WebView, Electron, a television's, and iOS's, which does not name
# Safari; or the app itself, by the name of its telephone's system.
_IN_APP = re.compile(
    r"; wv\)|\belectron/|\bhbbtv/|like mac os x\) applewebkit/(?!.* (?:safari/|\(compatible))"
    r"|^(?!mozilla/).*\bandroid\b"
)


# `SomeSDK/9.1 iOS/15.1 (iPhone) App/2.0 Hybrid Mozilla/5.0 (iPhone; …) … Safari/604.1`: an app that
# shows pages in its telephone's browser, and puts its own and its toolkit's names in front. What
# WhatsApp sends is the fetcher's of its previews.
_APP_FIRST = re.compile(
    r"(?!mozilla/|whatsapp/)[^/]+/\d.* mozilla/5\.0 "
    r"\((?:iphone|ipad|ipod|linux; (?:u; )?android)[^)]*\) "
    r"applewebkit/[\d.]+ \(khtml, like gecko\) .*\b(?:safari|mobile)/"
)

# What most browsers send, and no sign is in. Not looked through, which saves time.
_COMMONPLACES = ("applewebkit/537.36 (", "safari/537.36", "android")


class Signs:
    """Tells crawlers by signs of our own, and their kind."""

    def __init__(self) -> None:
        kinds: Mapping[Reason, Sequence[str]] = {
            Reason.AI_AGENT: AI_AGENTS.split(", "),
            Reason.MONITOR: _MONITOR,
            Reason.HEADLESS: _HEADLESS,
            Reason.HTTP_LIBRARY: _HTTP_LIBRARY,
            Reason.CRAWLER: (
                *_CRAWLER,
                *TOOLS.split(", "),
                *EARLIER.split(", "),
            ),
        }
        services = [f"^{name}" for name in SERVICES.split()]
        self._kinds = {reason: SearchTree(signs) for reason, signs in kinds.items()}
        self._services = SearchTree(services)
        self._any = SearchTree(
            (
                *(*_JOBS, *JOBS.split(", "), *services),
                *(sign for signs in kinds.values() for sign in signs),
            )
        )

    def reason(self, text: str) -> Reason | None:
        """The kind of crawler whose User-Agent, in lower case, this is; None: no sign of one."""
        rest = text
        for commonplace in _COMMONPLACES:
            rest = rest.replace(commonplace, "\0")
        if not self._any.finds(rest):
            return None
        for reason, signs in self._kinds.items():
            if signs.finds(rest):
                return reason
        if _APP_FIRST.match(text):
            return None
        # Only what it does tells it: in an app, that is the app's name.
        in_app = _IN_APP.search(text) and not self._services.finds(rest)
        return None if in_app else Reason.CRAWLER
