"""What `docs/operations.md` has an operator type on a Debian host: its `bash` blocks."""

import re
from typing import Final

from tests.system import ROOT

_HANDBOOK: Final = (ROOT / "docs/operations.md").read_text()
_BLOCK: Final = re.compile(r"^```bash\n(.*?)^```$", re.MULTILINE | re.DOTALL)

EVERY_BLOCK: Final = _BLOCK.findall(_HANDBOOK)


def blocks(heading: str) -> list[str]:
    """Those below a heading, to the next one of whatever level."""
    (text,) = re.findall(
        rf"^#+ {re.escape(heading)}$(.*?)(?:^#+ |\Z)", _HANDBOOK, re.MULTILINE | re.DOTALL
    )
    return _BLOCK.findall(text)
