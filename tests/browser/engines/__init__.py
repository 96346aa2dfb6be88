"""Three engines, as bare as a person's: each is told which page to open, show, hide and close.

No library drives all three: Debian has no geckodriver for selenium, and Playwright's Firefox and
WebKit are builds of its own. So each is spoken to as it speaks by itself, in the few words that
are needed here: Chromium in the DevTools protocol, Firefox in WebDriver BiDi, WebKitGTK in
WebDriver.
"""

from tests.browser.engines.chromium import Chromium
from tests.browser.engines.engine import Engine, Tab
from tests.browser.engines.firefox import Firefox
from tests.browser.engines.webkit import WebKit

__all__ = ["ENGINES", "Chromium", "Engine", "Tab"]

ENGINES: tuple[type[Engine], ...] = (Chromium, Firefox, WebKit)
