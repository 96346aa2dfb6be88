"""Waits until the processes of `make run` are ready."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from http import HTTPStatus

from aiohttp import ClientError, ClientSession, ClientTimeout

_POLL_SECONDS = 0.1
_ANSWER_SECONDS = 2.0
_READY_SECONDS = 30.0


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
