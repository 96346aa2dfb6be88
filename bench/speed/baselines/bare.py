"""The limit: a bare aiohttp + uvloop application whose handler reads the body and returns 201."""

import argparse

import uvloop
from aiohttp import web


async def handle(request: web.Request) -> web.Response:
    await request.read()
    return web.Response(status=201)


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m bench.speed.baselines.bare", description=__doc__
    )
    parser.add_argument("--port", type=int, required=True)
    application = web.Application()
    application.router.add_post("/web_api/v1/sessions", handle)
    web.run_app(
        application,
        host="127.0.0.1",
        port=parser.parse_args().port,
        access_log=None,
        print=None,
        loop=uvloop.new_event_loop(),
    )


if __name__ == "__main__":
    main()
