"""Names that no browser would have, whoever's they are.

Every browser that can run a beacon's script begins with `Mozilla/` or `Opera/` and names its
engine. Telephones of an earlier age and some apps do neither, and are people's: so only what has a
program's shape, and none of a browser's words, counts.
"""

import re

# Words of browsers, telephones and their engines.
_BROWSERS_WORD = re.compile(
    r"mozilla|opera|dalvik|browser|firefox|chrome|safari|explorer|msie|android|windows|java|apple"
    r"|ipod|ipad|iphone|gecko|sleipnir|profile|midp|wap|nokia|samsung|blackberry|ucweb|cfnetwork"
    r"|darwin|linux|mobile|player|amiga|dillo|w3m|lynx|links|netsurf|sylera|webox|icab|omniweb"
    r"|konqueror|phone|polycom|nintendo|playstation|hbbtv|smart-?tv"
)
# `colly/2.1.0`, `BW/1.1; rb.gy/oupwis`
_NAME_AND_VERSION = re.compile(r"[a-z][\w.-]+/v?\d[\w.+-]*(?:; [\w./]+)?")
# `anthropic-ai`, `search.marginalia.nu`
_NAME_OF_PARTS = re.compile(r"(?!www\.)[a-z]{2,}(?:[.-][a-z]{2,}){1,4}")
# `VaultPress`: one word of two, and nothing else.
_NAME_OF_TWO_WORDS = re.compile(r"[A-Z][a-z]+[A-Z]\w+")
# `Mozilla/5.0 (compatible; Qualys)`: it calls itself compatible, and names no engine.
_COMPATIBLE = re.compile(r"mozilla/5\.0 ?\((?:[^)]*; ?)?compatible; ?(?!linux|windows)")
_ENGINE = re.compile(r"gecko|webkit|trident|khtml|presto|msie|konqueror|netfront|hbbtv")


def is_no_browsers(user_agent: str, text: str) -> bool:
    """Whether a User-Agent has the shape of a program's that is no browser.

    Args:
        user_agent: without spaces around it.
        text: the same in lower case.
    """
    if text.startswith("mozilla/"):
        return _COMPATIBLE.match(text) is not None and _ENGINE.search(text) is None
    if (
        _NAME_AND_VERSION.fullmatch(text)
        or _NAME_OF_PARTS.fullmatch(text)
        or _NAME_OF_TWO_WORDS.fullmatch(user_agent)
    ):
        return _BROWSERS_WORD.search(text) is None
    return False
