"""`python -m tests.adversity.canaries.faulty_collector`: steps fail with errors that show secrets.

The error of a step quotes all that it was given: the request, and the salt. A step fails where the
request's site or body says so: `visitor.fault.example.org` has the step `visitor` fail.
"""

import asyncio
import sys
from collections.abc import Callable
from typing import Any, Final
from unittest.mock import patch

from collector import examination
from collector.__main__ import main
from collector.http import answers
from collector.http.answering import Answering
from contract.identity import Hasher
from salt import term

STEPS_SITES: Final = tuple(
    f"{name}.fault.example.org" for name in ("visitor", "user", "allow_origin")
)
LOOPS_SITE: Final = "begin.fault.example.org"
IN_A_BODY: Final = "parse_body.fault"


class TellingHasher(Hasher):
    """Its representation shows the salt."""

    def __init__(self, salt: bytes) -> None:
        super().__init__(salt)
        self._salt = salt

    def __repr__(self) -> str:
        return f"TellingHasher({self._salt!r})"


def wrap(owner: Any, name: str, fault: Callable[[str], None]) -> None:
    """Before a function of `owner` runs, `fault` is called if it was asked for, with what the
    function was given.
    """
    whole = getattr(owner, name)

    def step(*given: Any) -> Any:
        if f"{name}.fault" in repr(given):
            fault(repr(given))
        return whole(*given)

    setattr(owner, name, step)


def fail(given: str) -> None:
    raise RuntimeError(f"failed: {given}")


def fail_in_the_event_loop(given: str) -> None:
    """No code waits for these: the event loop itself logs their errors."""

    async def fail_later() -> None:
        fail(given)

    loop = asyncio.get_running_loop()
    loop.create_future().set_exception(RuntimeError(given))
    loop.create_task(fail_later())  # noqa: RUF006 - no code is to wait for it
    loop.call_soon(fail, given)


if __name__ == "__main__":
    wrap(examination, "parse_body", fail)
    wrap(TellingHasher, "visitor", fail)
    wrap(TellingHasher, "user", fail)
    wrap(answers, "allow_origin", fail)
    wrap(Answering, "begin", fail_in_the_event_loop)
    with patch.object(term, "Hasher", TellingHasher):
        sys.exit(main())
