"""docs/settings.md: the only list of the settings, generated from what the processes declare.

`make settings-page` writes the table; without it the test compares.
"""

import os
import re
from collections.abc import Iterator
from typing import Any, Final

from collector.process import SETTINGS as COLLECTOR
from contract import settings
from contract.setting import Setting
from flusher.process import SETTINGS as FLUSHER
from rotation.__main__ import SETTINGS as ROTATION
from tests.system import ROOT

PAGE: Final = ROOT / "docs" / "settings.md"
HEAD: Final = "| name | default | for | meaning |\n| --- | --- | --- | --- |\n"
PROCESSES: Final[dict[str, tuple[Setting[Any], ...]]] = {
    "C": (*COLLECTOR, settings.DEMO, settings.DEMO_TOKEN),
    "F": FLUSHER,
    "R": ROTATION,
}


def rows() -> Iterator[str]:
    declared = [each.name for each in vars(settings).values() if isinstance(each, Setting)]
    declared.insert(declared.index("ADMIN_HOST") + 1, "ADMIN_PORT")
    for name in declared:
        uses = {
            letter: setting
            for letter, its in PROCESSES.items()
            for setting in its
            if setting.name == name
        }
        meaning = next(iter(uses.values())).meaning
        default = ", ".join(dict.fromkeys(map(shown_default, uses.values())))
        yield f"| `{name}` | {default} | {' '.join(uses)} | {meaning} |\n"


def shown_default(setting: Setting[Any]) -> str:
    match setting.default:
        case None:
            return "required"
        case "" | "none":
            return "none"
        case _:
            return f"`{setting.show({})}`"


def test_the_page_has_every_setting_with_its_default_its_processes_and_its_meaning() -> None:
    text = PAGE.read_text()
    prose, head, _ = text.partition(HEAD)
    wanted = prose + head + "".join(rows())
    if os.environ.get("SETTINGS_PAGE") == "write":
        PAGE.write_text(wanted)
    else:
        assert text == wanted, "`make settings-page` writes docs/settings.md"


def test_no_other_page_has_a_table_of_settings() -> None:
    names = {setting.name for its in PROCESSES.values() for setting in its}
    for page in (ROOT / "README.md", *(ROOT / "docs").glob("*.md")):
        if page != PAGE:
            assert names.isdisjoint(re.findall(r"^\| `(\w+)` \|", page.read_text(), re.MULTILINE))
