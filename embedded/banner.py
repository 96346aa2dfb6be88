"""What `make run` prints once everything is ready."""

import asyncio
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from http import HTTPStatus
from pathlib import Path

from aiohttp import ClientError, ClientSession, ClientTimeout

from embedded.data_folder import RunningSystem
from embedded.run_settings import RunSettings

_POLL_SECONDS = 0.1
_ANSWER_SECONDS = 2.0
_READY_SECONDS = 30.0


def this_python() -> str:
    """The path of this interpreter, relative to this folder if it is below it."""
    program = Path(sys.executable)
    if program.is_relative_to(Path.cwd()):
        return os.path.relpath(program)
    return str(program)


def compose_banner(settings: RunSettings, system: RunningSystem) -> str:
    """The commands to try and the addresses, the most important ones last. At most 80 columns.

    URLs from the environment are not shown, because they may have passwords.
    """
    python = this_python()
    url = settings.collector_url
    redis = system.redis_url if settings.redis_url is None else "as in REDIS_URL"
    database = system.database_url if settings.database_url is None else "as in DATABASE_URL"
    # With a browser's User-Agent, because curl is recognised as a crawler.
    return f"""
  Try, in another terminal in this folder:

    curl -X POST {url}/web_api/v1/sessions \\
      -A 'Mozilla/5.0 (X11; Linux) Gecko/20100101 Firefox/140.0'
    {python} -m embedded psql -c 'SELECT * FROM sessions'
    {python} -m embedded token
    eval "$({python} -m embedded env)"
    {python} -m flusher status
    {python} -m bench.load --url {url} --sessions 10000

  Ctrl-C stops everything; the data stays for the next time.

  Redis       {redis}
  collector   {url}
  demo page   {url}/demo
  PostgreSQL  {database}
"""  # noqa: S608 - a command line, not a query


async def wait_until_ready(collector: str, pages: Sequence[str]) -> None:
    """Waits until `collector` answers, and at most 30 s until the pages (/readyz) say ready.

    After that a process may still not be ready; its own lines say why.
    """
    async with ClientSession(timeout=ClientTimeout(_ANSWER_SECONDS)) as http:
        await _answers(http, collector)
        with suppress(TimeoutError):
            async with asyncio.timeout(_READY_SECONDS):
                for page in pages:
                    await _answers(http, page, unless=HTTPStatus.SERVICE_UNAVAILABLE)
    # So that the last lines of the processes are printed first.
    await asyncio.sleep(_POLL_SECONDS)


async def _answers(http: ClientSession, url: str, *, unless: HTTPStatus | None = None) -> None:
    """Waits for an answer with any status except `unless`."""
    while True:
        with suppress(ClientError, OSError):  # a time-out is an OSError, too
            async with http.get(url) as answer:
                if answer.status != unless:
                    return
        await asyncio.sleep(_POLL_SECONDS)
