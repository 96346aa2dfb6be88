"""`python requirements/audit.py`: what production installs, against the known vulnerabilities.

1 where there is one. Where no database of them is reached, that is said, and is no failure: a check
must work offline. More arguments are pip-audit's.
"""

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

# The ends of what pip-audit and requests say where no answer comes.
_UNREACHED = (
    "ConnectionError",
    "ServiceError",
    "Timeout",
    "ould not connect",
    "SSLError",
    "ProxyError",
)
_LOCK = Path(__file__).with_name("production.txt")


def verdict(dependencies: list[dict[str, Any]]) -> tuple[list[str], int]:
    """Lines to print and the exit code, from pip-audit's `dependencies`."""
    lines = [
        f"{each['name']} {each['version']} has {hole['id']}; "
        f"mended in {', '.join(hole['fix_versions']) or 'no version yet'}"
        for each in dependencies
        for hole in each.get("vulns", ())
    ]
    skipped = sum("skip_reason" in each for each in dependencies)
    if lines:
        return lines, 1
    audited = len(dependencies) - skipped
    line = f"No known vulnerabilities in {audited} dependencies"
    return [line + (f"; {skipped} could not be audited" if skipped else "")], 0


def audit(arguments: Sequence[str]) -> int:
    """Runs pip-audit, and prints what it found in a line or a few."""
    options = [
        "--no-deps",
        "--disable-pip",
        "--progress-spinner=off",
        "--timeout=5",
        "--format=json",
    ]
    command = [sys.executable, "-m", "pip_audit", f"--requirement={_LOCK}", *options, *arguments]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    try:
        dependencies = json.loads(result.stdout)["dependencies"]
    except ValueError:
        reason = (result.stderr.strip().splitlines() or ["nothing was said"])[-1]
        print(f"Dependencies could not be audited: {reason[:200]}")
        return 0 if any(word in reason for word in _UNREACHED) else 1
    lines, code = verdict(dependencies)
    print("\n".join(lines))
    return code


if __name__ == "__main__":
    sys.exit(audit(sys.argv[1:]))
