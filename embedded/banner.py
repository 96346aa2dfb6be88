"""What `make run` prints once everything is ready."""

import os
import sys
from pathlib import Path

from embedded.run_settings import RunSettings


def this_python() -> str:
    """How a person in this folder calls the interpreter that runs."""
    program = Path(sys.executable)
    if program.is_relative_to(Path.cwd()):
        return os.path.relpath(program)
    return str(program)


def compose_banner(settings: RunSettings, *, redis_url: str, database_url: str) -> str:
    """What to try and where to look: no line is longer than 80 columns, and it ends with the three
    that matter most, for a terminal that shows its last lines.

    Addresses that came from the environment aren't repeated: they may hold a password.
    """
    python = this_python()
    url = settings.collector_url
    redis = redis_url if settings.redis_url is None else "as in REDIS_URL"
    database = database_url if settings.database_url is None else "as in DATABASE_URL"
    # A browser's User-Agent: curl's own is a robot's.
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
