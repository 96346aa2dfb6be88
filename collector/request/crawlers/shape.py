"""Whether a User-Agent has a browser's words.

Every browser that can run the beacon's script names its engine, among other words. An app that
sends the request itself names its telephone's system. Whatever names neither runs no script: it is
a program, or a telephone or a browser from before scripts.
"""

import re

# Engines; browsers that name themselves instead; systems whose apps send requests. CloudFront sends
# its own name for everybody, unless it is configured to forward the User-Agent.
_BROWSERS_WORD = re.compile(
    r"gecko|webkit|khtml|trident|msie|presto|opera|goanna|servo|konqueror|chrome|firefox|safari"
    r"|edge/|browser|android|dalvik|iphone|ipad|ipod|\bios\b|cfnetwork|windows phone|hbbtv"
    r"|smart-?tv|cloudfront"
)
# `Chrome`, `Firefox/29.0`: one word. A browser has many.
_ONE_WORD = re.compile(
    r"(?:gecko|(?:apple)?webkit|msie|opera|chrome|firefox|safari|edge|browser|android|iphone|ipad"
    r"|ios)(?:[ /]v?[\d._]+)?"
)


def is_no_browsers(text: str) -> bool:
    """Whether a User-Agent, in lower case and without spaces around it, is no browser's."""
    if text.startswith("mozilla/5.0 (") and "gecko" in text:  # nearly all: no expression is tried
        return False
    if _BROWSERS_WORD.search(text) is None:
        return True
    return _ONE_WORD.fullmatch(text.strip("[](){}\"'")) is not None
