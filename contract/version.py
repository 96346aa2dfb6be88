"""Which release this is: in the line at a start, in `--version` and in `impact_build_info`."""

from typing import Final

# As in pyproject.toml, which is not there where only the programs are.
VERSION: Final = "0.1.0"
