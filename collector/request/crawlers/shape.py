"""Whether a User-Agent has the words of a browser.

Every browser that can run the beacon names its engine and other words. An app that sends the
request itself names the telephone's system. All others are programs, or too old to run a script.
"""

import re

# Engines, browsers that name no engine, and systems whose apps send requests. CloudFront replaces
# the User-Agent with its own name, unless it is configured to forward it.
_BROWSER_WORD = re.compile(
    r"gecko|webkit|khtml|trident|msie|presto|opera|goanna|servo|konqueror|chrome|firefox|safari"
    r"|edge/|browser|android|dalvik|iphone|ipad|ipod|\bios\b|cfnetwork|windows phone|hbbtv"
    r"|smart-?tv|cloudfront"
)
# `Chrome`, `Firefox/29.0`: a browser sends more than one word.
_ONE_WORD = re.compile(
    r"(?:gecko|(?:apple)?webkit|msie|opera|chrome|firefox|safari|edge|browser|android|iphone|ipad"
    r"|ios)(?:[ /]v?[\d._]+)?"
)


def is_browsers(text: str) -> bool:
    """Whether a browser may send this User-Agent, in lower case and without spaces around it."""
    if text.startswith("mozilla/5.0 (") and "gecko" in text:  # nearly all; this is fast
        return True
    if _BROWSER_WORD.search(text) is None:
        return False
    return _ONE_WORD.fullmatch(text.strip("[](){}\"'")) is None
