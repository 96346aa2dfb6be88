"""Why a request is not a person's: the labels of `impact_ignored_total`, and no others."""

from enum import StrEnum


class Reason(StrEnum):
    """How a crawler was recognised. The first reason that fits, in this order, is counted."""

    NO_USER_AGENT = "no_user_agent"  # no browser leaves it out
    PREFETCH = "prefetch"  # a page that is loaded ahead, and perhaps never seen
    AI_AGENT = "ai_agent"  # it reads for a language model
    MONITOR = "monitor"  # it watches whether a site is up and fast
    HEADLESS = "headless"  # a browser that a program drives
    HTTP_LIBRARY = "http_library"  # a program's or a shell's
    CRAWLER = "crawler"  # any other that is known, or names a contact
    NOT_A_BROWSER = "not_a_browser"  # it has no browser's words
