"""Names that no browser would have, whoever's they are.

Every browser that can run a beacon's script begins with `Mozilla/` or `Opera/` and names its
engine. Telephones of an earlier age and some apps do neither, and are people's: so only what has a
program's shape, and none of a browser's words, counts.
"""

import re

# Words of browsers, telephones, their systems and engines, and of what apps are made with.
_BROWSERS_WORD = re.compile(
    r"mozilla|opera|dalvik|browser|firefox|chrome|safari|explorer|msie|android|hotjava"
    r"|windows (?:ce|mobile|phone)|netscape|webkit|ibrowse|sunrise/|emacs-w3|lotus-notes"
    r"|java/|apple|ipod|ipad|iphone|gecko|sleipnir|profile|midp|wap|nokia|samsung|blackberry|ucweb"
    r"|cfnetwork|darwin|mobile|player|amiga|dillo|w3m|lynx|links|netsurf|sylera|webox|icab|omniweb"
    r"|konqueror|phone|polycom|nintendo|playstation|hbbtv|smart-?tv|mac ?os|macintosh|\bios\b"
    r"|ice(?:cat|weasel|ape|dove)|itunes|quicktime|ps vita|docomo|up(?:\.link|\.b|/\d)|mmp/"
    r"|portalmmm|sec-[a-z]{3}|lg[/-]|ericsson|alamofire|cronet|hola cdn|symbian|series60|brew"
    r"|kindle|webos|tizen|roku|tvos|watchos|ubuntu touch|kaios|j2me|cldc|palm|maemo|meego|oculus"
    r"|xiino|mosaic|amaya|opr/|\bomi/|kreatv|polaris|softbank|\bwin(?:7|8|10|11|32|64)\b"
    r"|lunascape|shiira|galeon|toolbar|google talk|cloudfront"
    # Makers of telephones, which name themselves first.
    r"|alcatel|\bmot[-_]|motorola|\bsie[-_]|siemens|\bhtc|huawei|honor|lenovo|pantech|philips|amoi"
    r"|\bbird[-_]|\blg|kwc-|kyocera|\bgt-|\bs[gcp]h-|sony|\bzte|sagem|panasonic|sharp|sanyo|toshiba"
    r"|haier|\btcl|oppo|vivo|xiaomi|redmi|realme|oneplus|asus|acer|micromax|karbonn|gionee|coolpad"
    r"|meizu|tecno|infinix|\bitel|benq|dopod|vodafone|orange|dell|\bnec|audiovox|utstar|\bhp[-_ ]"
    r"|garmin|casio|hitachi|fujitsu|mitsu|bada|archos|vertu|blu\b|fly[-_ ]|lava|intex|spice|cricket"
)
# `colly/2.1.0`, `BW/1.1; rb.gy/oupwis`, `DigiCert DCV/1.1`, `Hype Machine/4.0 (…)`; but not `4.xx`,
# which somebody wrote down.
_NAME_AND_VERSION = re.compile(r"[a-z][\w.&'-]{0,63}(?: [a-z][\w.&'-]{0,63}){0,5}/v?\d(?![\d.]*x)")
# `Make/production`
_NAME_AND_STAGE = re.compile(r"[a-z][\w.-]*/[a-z_]+")
# `custom_user_agent`: what was to be replaced.
_PLACEHOLDER = re.compile(r"user[ _-]?agent")
# `anthropic-ai`, `search.marginalia.nu`, `wp_is_mobile`
_NAME_OF_PARTS = re.compile(r"(?!www\.)[a-z]{2,}(?:[.-][a-z]{2,}){1,4}|[a-z]+(?:_[a-z]+){2}")
# `ZooShot 0.42`
_WORD_AND_VERSION = re.compile(r"[a-z]{4,} v?\d+\.\d+")
# `example.io - tool/0.1`: whose it is stands first.
_DOMAIN_FIRST = re.compile(
    r"(?!www\.)(?:[a-z0-9-]{2,63}\.){1,3}(?:com|io|ai|org|net|co|dev|app)[ /;,(]"
)
# `VaultPress`, `phpMyAdmin`: one word of two, and nothing else; `Anarchy99`; `Report Runner`.
_NAME_OF_TWO_WORDS = re.compile(
    r"[A-Z][a-z]+[A-Z]\w+|[a-z]{2,}[A-Z][a-z]\w*|[A-Z][a-z]{3,}\d{2,4}|[A-Z][a-z]\w+ [A-Z][a-z]\w+"
)
# `Library Of Congress Web Archiving`
_TITLE = re.compile(r"[A-Za-z']+(?: [A-Za-z']+){3,9}")
# What programs are, and people's are not: at a word's end, which may be a capital's beginning.
_PROGRAM = re.compile(
    r"(?:[Cc]onnect(?:or|ion)|[Ii]mport(?:er)?|[Ee]xport(?:er)?|[Mm]atcher|[Rr]equester|[Ss]ervices"
    r"|[Ww]ebhooks?|[Aa]rchiving|[Gg]athering|[Ss]earcher|[Ll]oader|[Uu]pdater|[Ww]orker|[Ss]ync"
    r"|\bAPI|[Ii]ntegration|Client|\bclient)(?:(?= v?\d)|(?=[/)]|$))"
)
# `Mozilla/5.0 (compatible; Qualys)`: it calls itself compatible, and names no engine.
_COMPATIBLE = re.compile(
    r"mozilla/5\.0 ?\((?:[^)]*; ?)?compatible;"
    r"(?! ?(?:linux|windows|ubuntu|ibrowse|[a-z]{2}-[a-z]{2}\)))"
)
# `Mozilla/5.0 (Google-PhysicalWeb)`: a name where the system would be.
_NAME_FOR_SYSTEM = re.compile(r"mozilla/5\.0 ?\(?(?!compatible|danger|[a-z]{2}-[a-z]{2};)[a-z]")
# `Mozilla/5.0 (Macintosh; …) Tool/1.0`: a name where the engine would be.
_NAME_FOR_ENGINE = re.compile(
    r"mozilla/5\.0 ?\((?![^)]*(?:iphone|ipad|android|midp))[^)]*\) "
    r"(?!version/|windowspowershell)[a-z][\w.-]*/\d"
)
_SYSTEM = re.compile(
    r"windows|linux|macintosh|mac os|x11|iphone|ipad|ipod|android|nintendo|playstation|symbian|bsd"
    r"|os/2|webos|web0s|tizen|tv\b|unknown|mobile|nokia|series|blackberry|bb10|kaios|sunos|cros"
)
_ENGINE = re.compile(
    r"gecko|webkit|trident|khtml|presto|msie|konqueror|netfront|hbbtv|goanna|opera|servo|firefox"
    r"|galeon|icab|netscape|teleca|brew|midp|vodafone|samsung|chrome|edge|treco|polaris|navigator|browser|nintendo|playstation"
    r"|clecko|sundance|syllable"
)


_LONG = 40
# `-`: no word at all. `Chrome`, `null`, `Windows NT 6.1`, `Mozilla/5.0`: one word of the many that
# a browser has, or of a program that had nothing to say.
_ONE_WORD = re.compile(
    r"[^a-z0-9]*|(?:mozilla|chrome|chromium|firefox|safari|opera|edge?|msie|internet explorer"
    r"|(?:apple)?webkit|gecko|android|ios|iphone|ipad|linux|ubuntu|x11|macintosh|mac os x?|macos"
    r"|windows(?: nt)?|mobile|desktop|browser|null|nil|false|true|nan|object object)"
    r"(?:[ /]v?[\d._]+)?"
)
# `Mozilla/5.0 ()`, `Mozilla/5.0 (Windows NT 10.0; Win64; x64)`: and then no engine.
_SYSTEM_ALONE = re.compile(
    r"mozilla/5\.0[. )]*(?:\((?:compatible;?(?=\)|$)|(?:windows|macintosh|x11|[^a-z)])[^)]*)?\)?)?"
)


def is_no_browsers(user_agent: str, text: str) -> bool:
    """Whether a User-Agent has the shape of a program's that is no browser.

    Args:
        user_agent: without spaces around it.
        text: the same in lower case.
    """
    if len(text) < _LONG and _ONE_WORD.fullmatch(text.strip("[](){}\"'")):
        return True
    if text.startswith("mozilla/"):
        return not ("gecko" in text or _ENGINE.search(text)) and (
            _SYSTEM_ALONE.fullmatch(text) is not None
            or _COMPATIBLE.match(text) is not None
            or _NAME_FOR_ENGINE.match(text) is not None
            or (_NAME_FOR_SYSTEM.match(text) is not None and _SYSTEM.search(text) is None)
        )
    if (
        _NAME_AND_VERSION.match(text)
        or _NAME_AND_STAGE.fullmatch(text)
        or _DOMAIN_FIRST.match(text)
        or _NAME_OF_PARTS.fullmatch(text)
        or _WORD_AND_VERSION.fullmatch(text)
        or _PLACEHOLDER.search(text)
        or _NAME_OF_TWO_WORDS.fullmatch(user_agent)
        or _TITLE.fullmatch(user_agent)
        or _PROGRAM.search(user_agent)
    ):
        return _BROWSERS_WORD.search(text) is None
    return False
