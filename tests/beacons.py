"""`python tests/beacons.py URL SITE FILE`: thirty launches a second, each sent once.

Ends at SIGTERM, or after ten minutes. FILE gets a line for each: its id, and the answer's status
or what there was instead. It runs where the system is, with nothing but what production installs.
"""

import asyncio
import signal
import sys
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Final

import aiohttp

_EVERY_SECONDS: Final = 0.03
_AT_MOST: Final = 12_000
_BROWSER: Final = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"


async def main(url: str, site: str, file: Path) -> None:
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    headers = {"User-Agent": _BROWSER, "Host": site}
    timeout = aiohttp.ClientTimeout(total=60)
    with file.open("w", buffering=1) as answers:
        async with (
            aiohttp.ClientSession(headers=headers, timeout=timeout) as http,
            asyncio.TaskGroup() as launches,
        ):
            for _ in range(_AT_MOST):
                launches.create_task(_launch(http, url, answers.write))
                try:
                    await asyncio.wait_for(stop.wait(), _EVERY_SECONDS)
                except TimeoutError:
                    continue
                break


async def _launch(http: aiohttp.ClientSession, url: str, write: Callable[[str], object]) -> None:
    session = str(uuid.uuid4())
    try:
        async with http.post(f"{url}/web_api/v1/sessions", json={"id": session}) as answer:
            write(f"{session} {answer.status}\n")
    except (aiohttp.ClientError, TimeoutError) as error:
        write(f"{session} {error!r}\n")


if __name__ == "__main__":
    _, url, site, file = sys.argv
    asyncio.run(main(url, site, Path(file)))
