"""The limit: a bare aiohttp + uvloop application whose handler reads the body and returns 201."""

from aiohttp import web

from bench.speed.baselines.serve import arguments, serve


async def handle(request: web.Request) -> web.Response:
    await request.read()
    return web.Response(status=201)


if __name__ == "__main__":
    application = web.Application()
    application.router.add_post("/web_api/v1/sessions", handle)
    serve(application, arguments().port)
