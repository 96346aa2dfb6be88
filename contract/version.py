"""The release: in the log at a start, in `--version` and in `impact_build_info`."""

from typing import Final

# As in pyproject.toml, which an installation does not have.
VERSION: Final = "0.1.0"
