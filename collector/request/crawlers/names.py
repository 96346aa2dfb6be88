"""Names of crawlers by what they do, and words for what programs do.

They are patterns as in `patterns`, separated by `, `. Most are from the makers' documentation. A
pattern must not match an app or a device that people use: `kimi-searchbot`, not `kimi`. So words
that are also names of apps (Fetch, Podcasts, Mercury …) are not here. `python -m bench.crawlers`
measures the effect.
"""

# They read for a language model.
AI_AGENTS = (
    r"gptbot, chatgpt-(user|browser|agent), chatgpt agent, oai-(searchbot|adsbot), ^openai, "
    r"anthropic-ai, claude(bot|-user|-searchbot|-web|-code), claude code, perplexity(bot|-user), "
    r"bytespider, tiktokspider, meta-(externalagent|externalfetcher|webindexer|externalads), "
    r"facebookbot, google-(extended|cloudvertexbot|agent|gemini|notebooklm|geminin), googleagent, "
    r"googleother, gemini-(deep-research|ai|cli), applebot-extended, amazonbot, amazonbuyforme, "
    r"amzn-(searchbot|user), novaact, bedrockbot, ccbot, cohere(-ai|-training|bot), ai2bot, "
    r"diffbot, mistral(ai-|bot), duckassistbot, youbot, (xai|grok)-?(searchbot|bot|user|search), "
    r"grokbot, deepseek-?(bot|user), qwen-?(bot|user), "
    r"(kimi|tongyi|doubao|yiyan|ernie)-?(bot|user|searchbot), moonspider, chatglm-spider, "
    r"pangubot, petalbot, timpibot, imagesiftbot, omgili, webzio, iask(spider|bot), velenpublic, "
    r"icc-crawler, kangaroo bot, sidetrade, semanticscholarbot, phindbot, exasearchbot, exabot, "
    r"tavilybot, tavily/, firecrawl, crawl4ai, crawlspace, jinareader, linkupbot, linerbot, "
    r"andibot, manus-user, devin/, azureai-searchbot, bigsur\.ai, quillbot, scrapegraph, laion, "
    r"img2dataset, sbintuitionsbot, cotoyogi, spawning-ai, brightbot, friendlycrawler, thinkbot, "
    r"poseidon research, wrtnbot, klaviyoaibot, aiwebindex, novellum, newsai/, kagi-, aihitbot, "
    r"autorag, notebooklm, anomura, opencode/, poggio, shap-user, terra ?cotta, twinagent, "
    r"browser-use, browseruse, stagehand, skyvern, agentql, langchain, llamaindex, autogpt, "
    r"hyperbrowser, anchorbrowser, steel\.dev, google-firebase"
)
# They check whether a site is up and fast.
MONITORS = (
    r"uptime, pingdom, statuscake, site24x7, newrelic, datadog, checkly, uptrends, gtmetrix, "
    r"speedcurve, webpagetest, ptst/, page ?speed, lighthouse, catchpoint, dynatrace, ruxit, "
    r"nagios, check_http, zabbix, icinga, better ?stack, hetrixtools, freshping, updown\.io, "
    r"cron-job\.org, healthcheck, health[ -]?check, kube-probe, googlehc, health probe, "
    r"blackbox[ -]exporter, ^prometheus, ^grafana, synthetic, hyperping, ohdear, montastic, "
    r"nodeping, pingping, binarycanary, site ?monitor, monitoring, monsido, siteimprove, "
    r"^solarwinds, compatible; splunk, appinsights\), ^alwayson, ^observepoint, "
    r"cloudflare-(healthchecks|speedtest|csup), bugsnag, noibu, sentryuptime"
)
# Browsers that a program controls.
HEADLESS = (
    r"headless, phantomjs, slimerjs, casperjs, puppeteer, playwright, selenium, webdriver, "
    r"cypress/, lightpanda, htmlunit, zombie\.js, jsdom/, nightmare/, browserless, browserbase, "
    r"rendertron, prerender, wkhtmlto, testcafe, ghostinspector, collapsify"
)
# Libraries and command line tools that send requests.
HTTP_LIBRARIES = (
    r"okhttp, python-(requests|urllib|httpx|opengraph), ^python, aiohttp/, ^axios/, ^got[ /(], "
    r"node-(fetch|superagent|urllib), ^node(\.js)?($|[/ ]), undici, ^bun/, ^deno/, libcurl, ^curl, "
    r"^wget, libwww, lwp::, go-http-client, ^go[ -]resty, ^java/, javaws, java-http-client, "
    r"httpclient, http-client, http client, guzzle, ^ruby, ^rest-client, ^faraday, ^httparty, "
    r"typhoeus, ^reqwest, ^ureq, ^hyper/, ^isahc, ^dart, postman, insomnia/, httpie, ^alamofire, "
    r"^httpx, ^scrapy, mechanize, ^jakarta, winhttp, ^colly, unirest, restsharp, ^ktor, ^vert\.x, "
    r"^feign, hackney/, ^perl, ^php, ^symfony, ^k6/, ^vegeta, ^locust, apachebench, ^download ninja"
)
# Other tools and services that add their name to a browser's User-Agent. If they send only their
# name, `filter` recognises them.
TOOLS = (
    r"functionize, convertify, prospecting, acunetix, adbeat, adidxbot, alertsite, applitools, "
    r"archivebox, axe-core, axeptio, barracuda, bingpreview, blazemeter, blue ?coat, botasaurus, "
    r"brandverity, brandwatch, brightcloud, brightdata, browserstack, browsertrix, browshot, "
    r"builtwith, calibreapp, camoufox, comscore, confiant, consentmanager, cookiebot, cookiehub, "
    r"cookieyes, cybaa, dareboot, debugbear, deepcrawl, dejaclick, detectify, domaintools, "
    r"doubleverify, duplexweb, embedly, factset, flipboardproxy, flipboardrss, forcepoint, "
    r"foregenix, fortigate, geoedge, ghost ?inspector, gomez, google ?web ?preview, "
    r"google favicon, google page ?speed, google search console, google-[a-z]{4}(?<!-play), "
    r"googleimageproxy, googlesecurityscanner, gpodder, grapeshot, hardenize, heritrix, iboss, "
    r"integralads, invicti, iplabel, jsoup, keynote[- /], lambdatest, linkchecker, marketgoo, "
    r"mediapartners, mediatrust, microsoftpreview, moatbot, ms web services, ms-?search, neoload, "
    r"nessus, netcraft, netsparker, neustar, newsnow, nutch, offline explorer, oncrawl, onetrust, "
    r"pa11y, pagepeeker, pagething, peer39, percy/, phantomas, pixalate, probely, proofpoint, "
    r"pwabuilder, qualys, quantcast(?!sdk), rapidspike, readable/, rigor\), riskiq, saucelabs, "
    r"scope3, screaming frog, seo4ajax, seositecheckup, silkperformer, silktide, similartech, "
    r"similarweb, simplepie, sitebulb, sitelock, sitespeed, storebot, stretchoid, testlocally, "
    r"thousandeyes, trustarc, ttd-content, twitterbot, urlbox, urlscan, usercentrics, wappalyzer, "
    r"watchtowr, webbkoll, websense, weborama, ^whatsapp/, witbe, woorank, xml-?rpc, yellowlab, "
    r"yottaa, zaproxy, zenrows, zoominfo, hotjar, sindup/, ps_daily/, criticalcss, bw/1\.\d; , "
    r"daumoa"
)
# Words for what programs do. Many are isbot's that match no browser of the corpus.
JOBS = (
    r"verif(y|ier|icat), validat(e|or|ion), fetcher, fetching, tester, test/, testing, inspector, "
    r"analy[zs](er|is), collector, extract(or|ion), grabber, resolver, sniffer, screenshot, "
    r"expander, newsgather, gatherer, retriev, https?-?agent, oembed, open-?graph, snippet, "
    r"thumbnail, vulnerab, webmaster, detect(?!ivestory), measur, whois, sitemap, semantic, "
    r"automat, malware, honeypot, plagiar, dataset, scholar, research, census, benchmark, "
    r"importer, exporter, aggregator(?!-lanl), generator, prober, pinger, phish(?!lock), "
    r"w3c(?<!iew3c), fingerprint(?!=), classifier, compliance, threat, pentest, exploit, osint, "
    r"fuzzer, broken-?link, dead-?link, wayback, transcod, agentic, webperf, web ?archiv, "
    r"headers$, -headers/, ( |\()agent\)$,  agent\), locally/, submitter, recrawl, optimizer, "
    r"optimization check, enrichment, scraping, downloader/, mirroring, redirect check, "
    r"spellcheck, -probe/, probe/, load ?test, stress ?test, speed ?test/, "
    r"accessibility ?(check|scan|test|audit), link ?extract, url ?resolv, page ?render, renderer, "
    r"rendering, snapshotter, html ?to ?pdf, pdf ?generator, critical path, critical ?css, "
    r"prerend, site ?(audit|check|scan|crawl|map|test|analy), "
    r"web ?(capture|copier|reaper|zip|ripper|strip|snap|thumb|shot|check|test|analy), "
    r"(domain|host|port|ssl|tls|cert|dns|banner|email|price|link|meta) ?-?(finder|hunter|lookup), "
    r"(contact|news|image|media|data|content) ?-?(finder|hunter|miner|mining|tracker), abuse, "
    r"archive, audit, check(er|$|[ /;)_-]), cloudflare, favicon, feed(?<!buzzfeed), harvest, "
    r"indexer, insight, ( |-)image ?proxy, ( |-)link ?proxy, ( |-)url ?proxy, imageproxy, "
    r"link-?check, monitor, (page|link|url)[ -]?preview, preview(er|bot|-tool), "
    r"-radar(?<!htc-radar), parser, prefetch proxy, rss($|[ /;)-]), scan(?<!camscan)(?!pal|ia), "
    r"-screenshot$, scrap(er|ing|e[ /]), searchengine, security-(center|research), "
    r"seo(lyt|[ -]?(tool|check|bot|analy)), unfurl, webhook, watch(er/|agent), "
    r"( |-)api($|/| (?!\d)), com agent\), ^[a-z]*search(er[a-z]*)?($|[ /]), ( |-)proxy\), "
    r"-snapshot, ( |-)tools($|[ /;)]), lookup, crawler, spider[/;)], <script>, "
    r"user agent[;)](?<=; user agent.), useragent;(?<=; useragent;), ^useragent: , ^<, "
    r"chtml proxy, splash version, dlc/\d, geckobot, 0day|botnet|h4ck|r00t|pwned, "
    r"\$\{|\{\{|jndi:, x11; windows, time/\d{13}$"
)
