"""Signs of crawlers that crawlerdetect's list lacks, and what kind a crawler is.

Expressions in lower case, for `pattern_tree`, which is fast where they begin with a letter, and not
with a class or a group. Names are their makers' own, from their
documentation; a name that is also an app's in which people read has to come with what its crawler
adds (`kimi-searchbot`, and not `kimi`).
"""

from collections.abc import Mapping

from collector.crawlers.pattern_tree import SearchTree
from collector.crawlers.reason import Reason

_AI_AGENT = (
    "gptbot",
    "chatgpt-(user|browser|agent)",
    "chatgpt agent",
    "oai-(searchbot|adsbot)",
    "^openai",
    "anthropic-ai",
    "claude(bot|-user|-searchbot|-web|-code)",
    "claude code",
    "perplexity(bot|-user)",
    "bytespider",
    "tiktokspider",
    "meta-(externalagent|externalfetcher|webindexer|externalads)",
    "facebookbot",
    "google-(extended|cloudvertexbot|agent|gemini|notebooklm|geminin)",
    "googleagent",
    "googleother",
    "gemini-(deep-research|ai|cli)",
    "applebot-extended",
    "amazonbot",
    "amazonbuyforme",
    "amzn-(searchbot|user)",
    "novaact",
    "bedrockbot",
    "ccbot",
    "cohere(-ai|-training|bot)",
    "ai2bot",
    "diffbot",
    "mistral(ai-|bot)",
    "duckassistbot",
    "youbot",
    "(xai|grok)-?(searchbot|bot|user|search)",
    "grokbot",
    "deepseek-?(bot|user)",
    "qwen-?(bot|user)",
    "(kimi|tongyi|doubao|yiyan|ernie)-?(bot|user|searchbot)",
    "moonspider",
    "chatglm-spider",
    "pangubot",
    "petalbot",
    "timpibot",
    "imagesiftbot",
    "omgili",
    "webzio",
    "iask(spider|bot)",
    "velenpublic",
    "icc-crawler",
    "kangaroo bot",
    "sidetrade",
    "semanticscholarbot",
    "phindbot",
    "exasearchbot",
    "exabot",
    "tavilybot",
    "tavily/",
    "firecrawl",
    "crawl4ai",
    "crawlspace",
    "jinareader",
    "linkupbot",
    "linerbot",
    "andibot",
    "manus-user",
    "devin/",
    "azureai-searchbot",
    "bigsur\\.ai",
    "quillbot",
    "scrapegraph",
    "laion",
    "img2dataset",
    "sbintuitionsbot",
    "cotoyogi",
    "spawning-ai",
    "brightbot",
    "friendlycrawler",
    "thinkbot",
    "poseidon research",
    "wrtnbot",
    "klaviyoaibot",
    "aiwebindex",
    "novellum",
)
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
    "libwww",
    "lwp::",
    "go-http-client",
    "^go[ -]resty",
    "^java/",
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
_CRAWLER = (
    # Whom to ask about it: an address of the web or of mail.
    "\\+ ?https?:",
    "\\+ ?[a-z0-9._-]{1,64}@[a-z0-9-]+\\.[a-z]",
    "/v?[\\d.]+;? \\(https?:",
    "\\.(com|io|org|net|ai|fr|de|eu|dev|app|ru|win|uk|pl|nl|info)/v?\\d",
    # It says that it is compatible with what it names.
    "gecko[;)]? ?;? ?compatible; ",
    # What crawlers do. Many are isbot's words: those that take no browser of the tuning half.
    "abuse",
    "archive",
    "audit",
    "check(er|$|[ /;)_-])",
    "cloudflare",
    "favicon",
    "feed",
    "harvest",
    "indexer",
    "insight",
    "( |-)(image|url|link) ?proxy",
    "imageproxy",
    "link-?check",
    "monitor",
    "(page|link|url)[ -]?preview",
    "preview(er|bot|-tool)",
    "cloudflareradar",
    "-radar",
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
    "watch(er/|agent)",
    "-hostname-verification",
    "( |-)api($|[ /])",
    "com agent\\)",
    "^[a-z]*search($|[ /])",
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


# Services and federated servers that call by their names alone: what begins so is no browser.
_SERVICES = (
    "activitypub acunetix ahrefs akkoma algolia amazon- appdynamics asana atlassian aws- "
    "azure basecamp bazqux bigcommerce binaryedge bitbucket bluesky bookwyrm botify "
    "braintree bugsnag burp calckey censys chargebee clickup cloudfront cloudinary "
    "confluence contentking cookiebot cookieyes criminalip deepcrawl detectify diaspora "
    "didomi discord discourse elastic- expanse fastly feedbin feedly figma firefish "
    "flipboard fofa freshrss friendica github gitlab gotosocial healthchecks honeybadger "
    "hubzilla iceshrimp iframely imgix infinitewp inoreader instana instapaper intercom "
    "intruder invicti iubenda jetpack jira- kbin klaviyo leakix lemmy logicmonitor lumar "
    "mailchimp mailgun mainwp majestic managewp mangools marketo mastodon mbin miniflux "
    "misskey mollie nessus netcraft netdata netlify netvibes newsblur nextcloud nikto "
    "notion nuclei omnivore oncrawl onetrust onyphe openvas opsgenie osano owncloud "
    "pagerduty paypal peertube pipedream pixelfed plaid pleroma plume pocketcasts postmark "
    "prestashop probely qualys quttera rapid7 raventools readwise rollbar ryte salesforce "
    "securitytrails semrush sendgrid sendinblue sentry seobility serpstat sharkey shodan "
    "shopify signal/ sistrix sitebulb skypeuripreview slackbot snyk splunk statping stripe "
    "sucuri sumologic svix telegram tenable termly theoldreader thousandeyes trello "
    "trustarc twilio upguard usercentrics vaultpress vercel viber virustotal wallabag "
    "woocommerce woorank wordfence wordpress wp-rocket wpmu wpumbrella writefreely zapier "
    "zendesk zenoss zgrab zoominfo zulip "
)


class Signs:
    """Tells crawlers by signs of our own, and their kind."""

    def __init__(self) -> None:
        kinds: Mapping[Reason, tuple[str, ...]] = {
            Reason.AI_AGENT: _AI_AGENT,
            Reason.MONITOR: _MONITOR,
            Reason.HEADLESS: _HEADLESS,
            Reason.HTTP_LIBRARY: _HTTP_LIBRARY,
            Reason.CRAWLER: (*_CRAWLER, *(f"^{name}" for name in _SERVICES.split())),
        }
        self._kinds = {reason: SearchTree(signs) for reason, signs in kinds.items()}
        self._any = SearchTree(sign for signs in kinds.values() for sign in signs)

    def reason(self, text: str) -> Reason | None:
        """The kind of crawler whose User-Agent, in lower case, this is; None: no sign of one."""
        if not self._any.finds(text):
            return None
        return next(reason for reason, signs in self._kinds.items() if signs.finds(text))
