"""Whether what `make run` started does its work yet."""

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
    """Poll until `collector` gives any answer and `pages` say ready; False if `given_up` was set.

    The pages, which are /readyz of each process, are waited for no longer than 30 s in all: what
    keeps a process from being ready stands in its own lines, and is no reason to say nothing else.
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
    # The lines that the processes have just written come first.
    return not given_up.wait(_POLL_SECONDS)


def _answers(url: str, *, unless: HTTPStatus | None = None) -> bool:
    """Whether an HTTP response comes, of whatever status but `unless`."""
    # No proxy: it is this machine.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        opener.open(url, timeout=_ANSWER_SECONDS).close()
    except urllib.error.HTTPError as error:
        error.close()
        return error.code != unless
    except OSError:
        return False
    return True
