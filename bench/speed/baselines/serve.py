"""How the baselines are started: `--port P`, and for some `--dsn`."""

import argparse

import uvloop
from aiohttp import web


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--dsn", help="of a PostgreSQL")
    return parser.parse_args()


def serve(application: web.Application, port: int) -> None:
    """Runs an application until it is stopped."""
    loop = uvloop.new_event_loop()
    web.run_app(application, host="127.0.0.1", port=port, access_log=None, print=None, loop=loop)
