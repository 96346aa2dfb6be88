"""What `make run` prints once the collector answers."""

import os
import sys
import threading
import urllib.error
import urllib.request
from pathlib import Path

from embedded.run_settings import RunSettings

_POLL_SECONDS = 0.2
_ANSWER_SECONDS = 2.0
_BROWSER = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"


def wait_for_answer(url: str, given_up: threading.Event) -> bool:
    """Poll until any HTTP response comes from `url`; False if `given_up` was set first."""
    # No proxy: it is this machine.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    while not given_up.wait(_POLL_SECONDS):
        try:
            opener.open(url, timeout=_ANSWER_SECONDS).close()
        except urllib.error.HTTPError as error:
            error.close()
            return True  # an error, but the collector's own
        except OSError:
            continue
        return True
    return False


def this_python() -> str:
    """How a person in this folder calls the interpreter that runs."""
    program = Path(sys.executable)
    if program.is_relative_to(Path.cwd()):
        return os.path.relpath(program)
    return str(program)


def compose_banner(settings: RunSettings, *, redis_url: str, database_url: str) -> str:
    """Where to look and what to try.

    Addresses that came from the environment aren't repeated: they may hold a password.
    """
    python = this_python()
    url = settings.collector_url
    redis = redis_url if settings.redis_url is None else "as in REDIS_URL"
    database = database_url if settings.database_url is None else "as in DATABASE_URL"
    return f"""
  collector   {url}
  demo page   {url}/demo
  PostgreSQL  {database}
  Redis       {redis}

  Try, in another terminal:

    curl -X POST {url}/web_api/v1/sessions -A '{_BROWSER}'
    {python} -m embedded psql -c 'select * from sessions'
    eval "$({python} -m embedded env)"
    {python} -m flusher status
    {python} -m bench.load --sessions 10000
    {python} -m embedded token

  Ctrl-C stops everything; the data stays for the next time.

"""  # noqa: S608 - a command line, not a query
