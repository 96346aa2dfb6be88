"""Waits until the processes of `make run` are ready."""

import threading
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from http import HTTPStatus

_POLL_SECONDS = 0.1
_ANSWER_SECONDS = 2.0
_READY_SECONDS = 30.0


def wait_until_ready(collector: str, pages: Sequence[str], given_up: threading.Event) -> bool:
    """Waits until `collector` answers, and at most 30 s until the pages (/readyz) say ready.

    After that a process may still not be ready; its own lines say why. Returns False if `given_up`
    was set.
    """
    while not _answers(collector):
        if given_up.wait(_POLL_SECONDS):
            return False
    deadline = time.monotonic() + _READY_SECONDS
    while not all(_answers(page, unless=HTTPStatus.SERVICE_UNAVAILABLE) for page in pages):
        if given_up.wait(_POLL_SECONDS):
            return False
        if time.monotonic() >= deadline:
            break
    # So that the last lines of the processes are printed first.
    return not given_up.wait(_POLL_SECONDS)


def _answers(url: str, *, unless: HTTPStatus | None = None) -> bool:
    """Whether an HTTP response comes, with any status except `unless`."""
    # Without a proxy, because it is this machine.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        opener.open(url, timeout=_ANSWER_SECONDS).close()
    except urllib.error.HTTPError as error:
        error.close()
        return error.code != unless
    except OSError:
        return False
    return True
