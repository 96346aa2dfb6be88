"""A short chaos run; a long one is `python -m bench.chaos --minutes 30`.

Each part's kill alone is in `test_kills`, which is quick.
"""

import json
from pathlib import Path

import pytest

from tests.system import run_command


@pytest.mark.long
async def test_random_faults_under_load_lose_nothing_and_invent_nothing(tmp_path: Path) -> None:
    code, output, errors = await run_command(
        "bench.chaos", "--minutes", "1", "--seed", "3", "--results", str(tmp_path)
    )
    assert code == 0, output + errors
    document = json.loads((tmp_path / "chaos.json").read_text())
    assert document["faults"]["kills, in all"] > 0
    assert document["rows"]["found"] > 300
