"""Why a request is a crawler's: labels of `impact_ignored_total`."""

from enum import StrEnum


class Reason(StrEnum):
    """If several apply, the first in this order is counted."""

    NO_USER_AGENT = "no_user_agent"  # every browser sends one
    PREFETCH = "prefetch"  # the page is loaded in advance, and perhaps never seen
    AI_AGENT = "ai_agent"  # it reads for a language model
    MONITOR = "monitor"  # it checks whether a site is up and fast
    HEADLESS = "headless"  # a browser that a program controls
    HTTP_LIBRARY = "http_library"  # a program's library, or a command such as curl
    CRAWLER = "crawler"  # any other known crawler, or a contact in the User-Agent
    NOT_A_BROWSER = "not_a_browser"  # it has no words of a browser
