"""Why a request is not a person's: labels of `impact_ignored_total`."""

from enum import StrEnum


class Reason(StrEnum):
    """How it was recognised. The first reason that fits, in this order, is counted."""

    NO_USER_AGENT = "no_user_agent"  # every browser sends one
    PREFETCH = "prefetch"  # a page that is loaded in advance, and perhaps never seen
    AI_AGENT = "ai_agent"  # it reads for a language model
    MONITOR = "monitor"  # it checks whether a site is up and fast
    HEADLESS = "headless"  # a browser that a program controls
    HTTP_LIBRARY = "http_library"  # a library of a program, or a command such as curl
    CRAWLER = "crawler"  # any other known crawler, or one that names a contact
    NOT_A_BROWSER = "not_a_browser"  # a name that no browser would have
