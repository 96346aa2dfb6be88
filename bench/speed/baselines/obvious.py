"""The obvious design: aiohttp, crawlerdetect as shipped (one instance), an INSERT a request.

It computes the same hash of the same fields and stores the same columns, on uvloop and with a pool
of prepared statements.
"""

import hashlib
import hmac
import os
import uuid
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from urllib.parse import urlsplit

import asyncpg
from aiohttp import web
from crawlerdetect import CrawlerDetect

from bench.speed.baselines.serve import arguments, serve

TABLE = """
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

_POOL = web.AppKey("pool", asyncpg.Pool)
_DETECTOR = web.AppKey("detector", CrawlerDetect)
_SALT = os.urandom(32)


async def start_session(request: web.Request) -> web.Response:
    user_agent = request.headers.get("User-Agent", "")
    if request.app[_DETECTOR].is_crawler(user_agent):
        return web.Response(status=204)
    document = await request.json()
    session_id = uuid.UUID(document["id"]) if "id" in document else uuid.uuid4()
    address = request.headers.get("X-Forwarded-For", "").rpartition(",")[2].strip()
    site = urlsplit(request.headers.get("Origin", "")).hostname or request.host
    message = f"{site}\n{address}\n{user_agent}".encode()
    user_hash = uuid.UUID(bytes=hmac.new(_SALT, message, hashlib.sha256).digest()[:16])
    now = datetime.now(UTC)
    month = now.date().replace(day=1)
    await request.app[_POOL].execute(_INSERT, session_id, month, site, user_hash, now)
    return web.json_response({"data": {"id": str(session_id), "type": "session"}}, status=201)


def main() -> None:
    given = arguments()

    async def pool(application: web.Application) -> AsyncIterator[None]:
        async with asyncpg.create_pool(given.dsn) as connections:
            await connections.execute(TABLE)
            application[_POOL] = connections
            yield

    application = web.Application()
    application[_DETECTOR] = CrawlerDetect()
    application.router.add_post("/web_api/v1/sessions", start_session)
    application.cleanup_ctx.append(pool)
    serve(application, given.port)


if __name__ == "__main__":
    main()
