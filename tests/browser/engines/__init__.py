"""Three engines, as bare as a person's: a test opens, shows, hides and closes their pages.

No library drives all three: Debian has no geckodriver for selenium, and Playwright's Firefox and
WebKit are builds of its own. So each is driven by its own protocol, with the few commands that are
needed here: Chromium in the DevTools protocol, Firefox in WebDriver BiDi, WebKitGTK in
WebDriver.
"""

from tests.browser.engines.chromium import Chromium
from tests.browser.engines.engine import Engine, Tab
from tests.browser.engines.firefox import Firefox
from tests.browser.engines.webkit import WebKit

__all__ = ["ENGINES", "Chromium", "Engine", "Tab"]

ENGINES: tuple[type[Engine], ...] = (Chromium, Firefox, WebKit)
