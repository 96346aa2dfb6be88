"""`python -m bench.speed.baselines NAME --port P`: a server to compare the collector with.

bare: the limit, a bare aiohttp + uvloop application whose handler reads the body and returns 201.
canned: answers everything with the same bytes: it shows how fast the generator itself can be.
obvious: the obvious design, aiohttp, crawlerdetect as shipped (one instance), an INSERT a request.
    It computes the same hash of the same fields and stores the same columns (`--dsn`), on uvloop
    and with a pool of prepared statements.
"""

import argparse
import asyncio
import hashlib
import hmac
import os
import uuid
from datetime import UTC, datetime
from typing import cast
from urllib.parse import urlsplit

import asyncpg
import uvloop
from aiohttp import web
from crawlerdetect import CrawlerDetect

_PATH = "/web_api/v1/sessions"
_CANNED = b"HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n"
_TABLE = """
    CREATE TABLE IF NOT EXISTS obvious_sessions (
        id uuid PRIMARY KEY,
        month date NOT NULL,
        site text NOT NULL,
        monthly_user_hash uuid NOT NULL,
        highest_role text,
        created_at timestamptz NOT NULL,
        upgraded_at timestamptz
    )
"""
_INSERT = """
    INSERT INTO obvious_sessions (id, month, site, monthly_user_hash, highest_role, created_at)
    VALUES ($1, $2, $3, $4, NULL, $5)
    ON CONFLICT DO NOTHING
"""
_SALT = os.urandom(32)


async def bare() -> web.Application:
    async def handle(request: web.Request) -> web.Response:
        await request.read()
        return web.Response(status=201)

    application = web.Application()
    application.router.add_post(_PATH, handle)
    return application


async def obvious(dsn: str) -> web.Application:
    detector = CrawlerDetect()
    pool = await asyncpg.create_pool(dsn)
    await pool.execute(_TABLE)

    async def start_session(request: web.Request) -> web.Response:
        user_agent = request.headers.get("User-Agent", "")
        if detector.is_crawler(user_agent):
            return web.Response(status=204)
        document = await request.json()
        session_id = uuid.UUID(document["id"]) if "id" in document else uuid.uuid4()
        address = request.headers.get("X-Forwarded-For", "").rpartition(",")[2].strip()
        site = urlsplit(request.headers.get("Origin", "")).hostname or request.host
        message = f"{site}\n{address}\n{user_agent}".encode()
        user_hash = uuid.UUID(bytes=hmac.new(_SALT, message, hashlib.sha256).digest()[:16])
        now = datetime.now(UTC)
        month = now.date().replace(day=1)
        await pool.execute(_INSERT, session_id, month, site, user_hash, now)
        answer = {"data": {"id": str(session_id), "type": "session"}}
        return web.json_response(answer, status=201)

    application = web.Application()
    application.router.add_post(_PATH, start_session)
    return application


class _Canned(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:  # noqa: ARG002 - it is not read
        self._transport.write(_CANNED)


async def _serve_canned(port: int) -> None:
    server = await asyncio.get_running_loop().create_server(_Canned, "127.0.0.1", port)
    await server.serve_forever()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("name", choices=("bare", "canned", "obvious"))
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--dsn", help="of a PostgreSQL")
    given = parser.parse_args()
    if given.name == "canned":
        uvloop.run(_serve_canned(given.port))
        return
    application = bare() if given.name == "bare" else obvious(given.dsn)
    loop = uvloop.new_event_loop()
    web.run_app(
        application, host="127.0.0.1", port=given.port, access_log=None, print=None, loop=loop
    )


if __name__ == "__main__":
    main()
