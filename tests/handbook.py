"""What `docs/operations.md` has an operator type: `bash` on a Debian host, `sh` anywhere."""

import re
from typing import Final

from tests.system import ROOT

HANDBOOK: Final = (ROOT / "docs/operations.md").read_text()


def section(heading: str) -> str:
    """What is below a heading, to the next one of whatever level."""
    (text,) = re.findall(
        rf"^#+ {re.escape(heading)}$(.*?)(?:^#+ |\Z)", HANDBOOK, re.MULTILINE | re.DOTALL
    )
    return str(text)


def blocks(heading: str, language: str = "bash") -> list[str]:
    """Those of a section."""
    return every_block(language, section(heading))


def every_block(language: str, text: str = HANDBOOK) -> list[str]:
    return re.findall(rf"^ *```{language}\n(.*?)^ *```$", text, re.MULTILINE | re.DOTALL)
