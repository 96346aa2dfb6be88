"""A short chaos run; the long one is `python -m bench.chaos --minutes 30`."""

import json
from pathlib import Path

from tests.system import run_command


async def test_random_faults_under_load_lose_nothing_and_invent_nothing(tmp_path: Path) -> None:
    code, output, errors = await run_command(
        "bench.chaos", "--minutes", "0.3", "--seed", "5", "--results", str(tmp_path)
    )
    assert code == 0, output + errors
    document = json.loads((tmp_path / "chaos.json").read_text())
    assert document["faults"]["kills, in all"] > 0
    assert document["rows"]["found"] > 500
