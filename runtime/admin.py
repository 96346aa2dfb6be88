"""The admin listener: health and metrics, on an address of its own.

`/livez` shows that this process runs; it depends on nothing else. `/readyz` shows whether it should
get work: it names every check that fails, and is 503 if one does. It also has warnings for an
operator, which do not change readiness. `/metrics` has Prometheus's text format.
"""

import errno
from collections.abc import Callable, Mapping

import structlog
from aiohttp import web
from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from contract.errors import Misconfigured
from contract.metrics import ProcessMetrics
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


class AdminListener:
    """Serves a process's admin pages until closed."""

    def __init__(
        self,
        host: str,
        port: int,
        registry: CollectorRegistry,
        checks: Checks,
        warnings: Checks = dict,
    ) -> None:
        """With `port` 0 it serves nothing. `warnings` do not change readiness."""
        self._host = host
        self._port = port
        self._registry = registry
        self._checks = checks
        self._warnings = warnings
        application = web.Application()
        application.router.add_get("/livez", self._livez)
        application.router.add_get("/readyz", self._readyz)
        application.router.add_get("/metrics", self._metrics)
        self._runner = web.AppRunner(application, access_log=None)

    async def start(self) -> None:
        """Starts to listen. If another process of this host has the port, it takes a free one.

        Raises:
            Misconfigured: this host does not have the address, or the port needs more rights.
        """
        if self._port == 0:
            return
        await self._runner.setup()
        try:
            await web.TCPSite(self._runner, self._host, self._port).start()
        except (OSError, UnicodeError) as error:  # UnicodeError: a part of the name is too long
            if not isinstance(error, OSError) or error.errno != errno.EADDRINUSE:
                why = error.strerror if isinstance(error, OSError) else "it is no host name"
                problem = f"can't be listened on, port {self._port}: {why or error}"
                example = f"{ADMIN_HOST.name}=127.0.0.1 ADMIN_PORT=9110"
                raise Misconfigured(ADMIN_HOST.name, problem, example) from None
            await web.TCPSite(self._runner, self._host, 0).start()
            log.info("another process has ADMIN_PORT: a free port is used", wanted=self._port)
        log.info("admin pages are served", address="{}:{}".format(*self._runner.addresses[0][:2]))

    async def close(self) -> None:
        await self._runner.cleanup()

    async def _livez(self, _: web.Request) -> web.Response:
        return web.json_response({"live": True})

    async def _readyz(self, _: web.Request) -> web.Response:
        failed = _wrong(self._checks())
        page = {"ready": not failed, "failed": failed, "warnings": _wrong(self._warnings())}
        return web.json_response(page, status=503 if failed else 200)

    async def _metrics(self, _: web.Request) -> web.Response:
        return web.Response(
            body=generate_latest(self._registry), headers={"Content-Type": CONTENT_TYPE_LATEST}
        )


def _wrong(checks: Mapping[str, str | None]) -> dict[str, str]:
    return {name: wrong for name, wrong in checks.items() if wrong is not None}
