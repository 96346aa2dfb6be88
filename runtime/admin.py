"""The admin listener: health and metrics, on an address of its own.

`/livez` shows that this process runs; it depends on nothing else. `/readyz` shows whether it should
get work: it names every check that fails, and is 503 if one does. It also has warnings for an
operator, which do not change readiness. `/metrics` has Prometheus's text format.
"""

import errno
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager

import structlog
from aiohttp import web
from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from contract.errors import Misconfigured
from contract.metrics import ProcessMetrics
from contract.setting import Environment, Setting
from contract.settings import ADMIN_HOST

Checks = Callable[[], Mapping[str, str | None]]
"""By the name of each check: what is wrong, or None."""

log = structlog.get_logger()


def make_registry() -> CollectorRegistry:
    """A registry with the release, and with Prometheus's own `process_…`: CPU, memory, files."""
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    ProcessMetrics(registry)
    return registry


@asynccontextmanager
async def serve_admin(
    environment: Environment,
    port_setting: Setting[int],
    registry: CollectorRegistry,
    checks: Checks,
    warnings: Checks = dict,
) -> AsyncIterator[None]:
    """Serves a process's admin pages until the end of the block. With port 0 it serves nothing.

    If another process of this host has the port, it takes a free one. `warnings` do not change
    readiness.

    Raises:
        Misconfigured: a setting is wrong, this host does not have the address, or the port needs
            more rights.
    """
    host, port = ADMIN_HOST.read(environment), port_setting.read(environment)
    if port == 0:
        yield
        return
    runner = web.AppRunner(_pages(registry, checks, warnings), access_log=None)
    await runner.setup()
    try:
        await _listen(runner, host, port)
        log.info("admin pages are served", address="{}:{}".format(*runner.addresses[0][:2]))
        yield
    finally:
        await runner.cleanup()


async def _listen(runner: web.AppRunner, host: str, port: int) -> None:
    try:
        await web.TCPSite(runner, host, port).start()
    except (OSError, UnicodeError) as error:  # UnicodeError: a part of the name is too long
        if not isinstance(error, OSError) or error.errno != errno.EADDRINUSE:
            why = error.strerror if isinstance(error, OSError) else "it is no host name"
            problem = f"can't be listened on, port {port}: {why or error}"
            example = f"{ADMIN_HOST.name}=127.0.0.1 ADMIN_PORT=9110"
            raise Misconfigured(ADMIN_HOST.name, problem, example) from None
        await web.TCPSite(runner, host, 0).start()
        log.info("another process has ADMIN_PORT: a free port is used", wanted=port)


def _pages(registry: CollectorRegistry, checks: Checks, warnings: Checks) -> web.Application:
    async def livez(_: web.Request) -> web.Response:
        return web.json_response({"live": True})

    async def readyz(_: web.Request) -> web.Response:
        failed = _wrong(checks())
        page = {"ready": not failed, "failed": failed, "warnings": _wrong(warnings())}
        return web.json_response(page, status=503 if failed else 200)

    async def metrics(_: web.Request) -> web.Response:
        return web.Response(
            body=generate_latest(registry), headers={"Content-Type": CONTENT_TYPE_LATEST}
        )

    pages = web.Application()
    pages.router.add_get("/livez", livez)
    pages.router.add_get("/readyz", readyz)
    pages.router.add_get("/metrics", metrics)
    return pages


def _wrong(checks: Mapping[str, str | None]) -> dict[str, str]:
    return {name: wrong for name, wrong in checks.items() if wrong is not None}
