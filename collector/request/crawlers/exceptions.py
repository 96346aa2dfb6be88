"""Exceptions from crawlerdetect's list: what it takes for a crawler's name, and people send.

Each is a piece of a User-Agent. It is removed, and the list is asked about the rest, so that a
crawler's other words still match. Exceptions are tried only where the list has matched.
"""

import re

# A television's maker and a telephone's, by `bot`, and a television's kind, by `demon`; Chrome's
# network library in apps, by `cron`; an app's package; passwords opened in their own window; a
# portal's browser; toolbars.
_NAMES = re.compile(
    r"\bbotech\b|\bdemonstration\b|(?<=; )xbot[ _]\w+|\bcronet(?:/[\w.@-]*)?"
    r"|\bcom\.yandex\.[\w.]+|\b1password/[\d.]+|\bseznam\.cz/[\d.]+|\bant\.com toolbar"
    r"|\b[a-z]{1,32}searchtoolbar"
)
# A telephone's model, which precedes `Build/`; or, with a digit in it, ends Android's brackets.
# OPPO A33 is a spider's, too, which leaves out the spaces.
_MODEL = re.compile(
    r"(\bandroid [\d.]{1,16}; (?:[a-z]{2}[-_][a-z]{2}; )?)(?:[^;()/]{1,48}(?= build/)"
    r"|(?=[^;()]{0,48}[\d_])[^;()/]{1,48}(?=\) applewebkit/[\d.]+ \(khtml, like gecko\) [cv]))"
)
# What the telephone's maker calls the system.
_BUILD = re.compile(r"\bbuild/[\w.]+")
# Chat programs that are Chrome inside: the list means the fetchers of their previews, which have
# no engine.
_CHAT = re.compile(r"\b(?:slack(?:_ssb)?|whatsapp|mattermost)(?: desktop| mobile)?/[\w.+-]*")
_ENGINE = re.compile(r"applewebkit/.*\b(?:chrome|safari|electron|mobile)/")
# Encoded data, which by chance holds the three and four letters of a short name.
_TOKEN = re.compile(r"[A-Za-z0-9+/_-]{20,}={0,2}")
_WORD = re.compile(r"crawl|spider|bot[/_-]|-bot|robot|https?", re.IGNORECASE)
_BOUNDARY = re.compile(r"[A-Za-z][0-9]|[0-9][A-Za-z]")
_LEAST_BOUNDARIES = 3


def without_known_mistakes(text: str) -> str:
    """The User-Agent, in its own case, without what the list mistakes for a crawler's name."""
    text = _TOKEN.sub(lambda token: "" if _is_encoded(token[0]) else token[0], text)
    low = text.lower()
    if len(low) != len(text):  # a letter whose lower case is longer: no browser's
        return text
    pieces = [_NAMES]
    if _ENGINE.search(low):
        pieces.append(_CHAT)
    for piece in pieces:
        low = piece.sub("", low)
    return _BUILD.sub("", _MODEL.sub(r"\1", low))


def _is_encoded(token: str) -> bool:
    return (
        len(_BOUNDARY.findall(token)) >= _LEAST_BOUNDARIES
        and not token.islower()
        and not token.isupper()
        and not _WORD.search(token)
    )
