"""Exceptions from crawlerdetect's list: parts of browsers' User-Agents that it matches by mistake.

If the list matches, these parts are removed, and the rest is compared with the list again.
"""

import re

# Televisions and a telephone (the list has `bot` and `demon`), Chrome's network library in apps
# (`cron`), an app's package, a password manager, a portal's browser, toolbars.
_NAMES = re.compile(
    r"\bbotech\b|\bdemonstration\b|(?<=; )xbot[ _]\w+|\bcronet(?:/[\w.@-]*)?"
    r"|\bcom\.yandex\.[\w.]+|\b1password/[\d.]+|\bseznam\.cz/[\d.]+|\bant\.com toolbar"
    r"|\b[a-z]{1,32}searchtoolbar"
)
# A telephone's model, before `Build/`, or with a digit at the end of Android's brackets. A spider
# calls itself OPPO A33, but without the spaces.
_MODEL = re.compile(
    r"(\bandroid [\d.]{1,16}; (?:[a-z]{2}[-_][a-z]{2}; )?)(?:[^;()/]{1,48}(?= build/)"
    r"|(?=[^;()]{0,48}[\d_])[^;()/]{1,48}(?=\) applewebkit/[\d.]+ \(khtml, like gecko\) [cv]))"
)
# The maker's name of the system.
_BUILD = re.compile(r"\bbuild/[\w.]+")
# Chat programs that contain Chrome. The list means the programs that fetch previews for them, which
# name no engine.
_CHAT = re.compile(r"\b(?:slack(?:_ssb)?|whatsapp|mattermost)(?: desktop| mobile)?/[\w.+-]*")
_ENGINE = re.compile(r"applewebkit/.*\b(?:chrome|safari|electron|mobile)/")
# Encoded data, which may contain a short name by chance.
_TOKEN = re.compile(r"[A-Za-z0-9+/_-]{20,}={0,2}")
_WORD = re.compile(r"crawl|spider|bot[/_-]|-bot|robot|https?", re.IGNORECASE)
_BOUNDARY = re.compile(r"[A-Za-z][0-9]|[0-9][A-Za-z]")
_LEAST_BOUNDARIES = 3


def without_known_mistakes(text: str) -> str:
    """The User-Agent, in its original case, without the parts that the list matches by mistake."""
    text = _TOKEN.sub(lambda token: "" if _is_encoded(token[0]) else token[0], text)
    low = text.lower()
    if len(low) != len(text):  # it has a letter whose lower case is longer: not a browser's
        return text
    has_engine = _ENGINE.search(low) is not None
    low = _NAMES.sub("", low)
    if has_engine:
        low = _CHAT.sub("", low)
    return _BUILD.sub("", _MODEL.sub(r"\1", low))


def _is_encoded(token: str) -> bool:
    return (
        len(_BOUNDARY.findall(token)) >= _LEAST_BOUNDARIES
        and not token.islower()
        and not token.isupper()
        and not _WORD.search(token)
    )
