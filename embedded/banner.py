"""What `make run` prints once everything is ready."""

import os
import sys
from pathlib import Path

from embedded.data_folder import RunningSystem
from embedded.run_settings import RunSettings


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
