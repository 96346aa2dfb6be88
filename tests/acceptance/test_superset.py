"""docs/metabase.md for Superset: the views, their descriptions and figures, as the reader's role.

Superset itself, with the versions of `requirements/superset.txt` in `.data/superset`: the first run
installs them.
"""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import aiohttp
import asyncpg
import pytest

from flusher.postgres.database import Database
from runtime.clock import wall_clock
from tests.integration.test_metabase import PAGE, SETUP
from tests.integration.test_report import fill
from tests.system import ROOT, eventually, find_free_port

pytestmark = [pytest.mark.long, pytest.mark.timeout(900)]  # the first run installs 157 packages

HOME = ROOT / ".data/superset"
LOCK = ROOT / "requirements/superset.txt"
PASSWORD = "a password of Superset's own user"
CONFIG = """\
SECRET_KEY = "a key of more than forty-two bytes, for this test"
SQLALCHEMY_DATABASE_URI = "sqlite:///{folder}/superset.db"
WTF_CSRF_ENABLED = False  # it protects browsers
"""
# Of each table and view, a chart: its period, how Superset calls that, and a figure.
CHARTS = {
    "monthly_impact": ("month", "P1M", "max(unique_users)"),
    "daily_impact": ("day", "P1D", "sum(sessions)"),
    "data_quality": ("month", "P1M", "sum(days_without_sessions)"),
    "sessions": ("month", "P1M", "count(*)"),
}


@pytest.fixture(scope="module")
def program() -> str:
    """Superset's command, installed once for each lock file. Only for want of an index, or of an
    older Python, is the test left out.
    """
    if sys.version_info >= (3, 13):
        pytest.skip("Superset 6.1 takes a pandas that is older than Python 3.13")
    installed = HOME / "installed.txt"
    if not installed.exists() or installed.read_text() != LOCK.read_text():
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(HOME)], check=True)
        environment = os.environ.copy()
        if environment["SSL_CERT_FILE"] == os.devnull:  # by tests/conftest.py; an index has one
            del environment["SSL_CERT_FILE"]
        result = subprocess.run(
            [
                *(str(HOME / "bin/python"), "-m", "pip", "install", "--quiet", "--retries=1"),
                *("--disable-pip-version-check", "--require-hashes", f"--requirement={LOCK}"),
            ],
            env=environment,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
        if "No matching distribution found" in result.stderr:
            pytest.skip("no index of packages answers, or it has no Superset: it was not tried")
        assert result.returncode == 0, result.stderr
        shutil.copy(LOCK, installed)
    return str(HOME / "bin/superset")


@pytest.fixture
def address(program: str, tmp_path: Path) -> Iterator[str]:
    """A new Superset's, set up by its own commands; it has started, and may not answer yet."""
    config, port = tmp_path / "superset_config.py", find_free_port()
    config.write_text(CONFIG.format(folder=tmp_path))
    environment = os.environ | {
        "FLASK_APP": "superset",
        "SUPERSET_CONFIG_PATH": str(config),
        "SUPERSET_HOME": str(tmp_path),
    }
    admin = {"username": "admin", "firstname": "A", "lastname": "B", "email": "a@example.org"}
    options = [f"--{name}={value}" for name, value in (admin | {"password": PASSWORD}).items()]
    for command in (["db", "upgrade"], ["fab", "create-admin", *options], ["init"]):
        subprocess.run([program, *command], env=environment, check=True)
    process = subprocess.Popen(
        [program, "run", "--host=127.0.0.1", f"--port={port}"], env=environment
    )
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()


@pytest.fixture
async def superset(address: str) -> AsyncIterator[aiohttp.ClientSession]:
    """Its administrator's, once it answers."""
    user = {"username": "admin", "password": PASSWORD, "provider": "db"}
    async with aiohttp.ClientSession(address) as http:

        async def answers() -> bool:
            with suppress(aiohttp.ClientConnectionError):
                async with http.get("/health") as response:
                    return response.ok
            return False

        await eventually(answers)
        token = (await ask(http, "/api/v1/security/login", user))["access_token"]
    headers = {"Authorization": f"Bearer {token}"}
    async with aiohttp.ClientSession(f"{address}/api/v1/", headers=headers) as http:
        yield http


async def ask(http: aiohttp.ClientSession, path: str, body: object = None) -> Any:
    """What its REST API answers."""
    async with http.request("GET" if body is None else "POST", path, json=body) as response:
        assert response.ok, await response.text()
        return await response.json()


@pytest.fixture
async def owner(dsn: str, database: Database) -> AsyncIterator[asyncpg.Connection]:
    """The owner of some months, on a server east of UTC, with the role that the page makes."""
    await fill(database, wall_clock())
    owner = await asyncpg.connect(dsn)
    name = await owner.fetchval("SELECT current_database()")
    await owner.execute(f"ALTER DATABASE {name} SET timezone = 'Europe/Brussels'")
    # Roles are the server's and outlive a test's database.
    await owner.execute("DROP ROLE IF EXISTS superset")
    await owner.execute(SETUP.replace("metabase", "superset"))
    (of_superset,) = re.findall(r"`(ALTER ROLE superset .*?)`", PAGE)
    await owner.execute(of_superset)
    yield owner
    await owner.execute("DROP ROLE superset")
    await owner.close()


async def test_superset_has_the_views_with_their_descriptions_and_figures(
    superset: aiohttp.ClientSession, owner: asyncpg.Connection, dsn: str
) -> None:
    uri = dsn.replace("postgres@", "superset:a-password@")
    body = {"database_name": "impact", "sqlalchemy_uri": uri, "expose_in_sqllab": True}
    database = (await ask(superset, "database/", body))["id"]
    schemas = (await ask(superset, f"database/{database}/schemas/"))["result"]
    assert {"public", "flusher"} <= {*schemas}, "the page says so"
    tables = await ask(superset, f"database/{database}/tables/?q=(schema_name:public)")
    assert sorted(table["value"] for table in tables["result"]) == sorted(CHARTS)
    for view, (period, grain, figure) in CHARTS.items():
        rows = await owner.fetch(
            "SELECT attname::text, col_description(attrelid, attnum) FROM pg_attribute "
            "WHERE attrelid = $1::text::regclass AND attnum > 0",
            view,
        )
        described = {row[0]: row[1] for row in rows}
        assert all(described.values())
        body = {"database": database, "schema": "public", "table_name": view}
        number = (await ask(superset, "dataset/", body))["id"]
        dataset = (await ask(superset, f"dataset/{number}"))["result"]
        columns = {column["column_name"]: column for column in dataset["columns"]}
        assert {name: columns[name]["description"] for name in columns} == described
        assert dataset["main_dttm_col"] == period
        rows = await owner.fetch(f"SELECT {period}, {figure} FROM {view} GROUP BY 1")
        expected = {row[0]: row[1] for row in rows}
        assert await chart(superset, number, period, grain, figure) == expected != {}
        # The view's own description, which SQL Lab shows beside the columns.
        path = f"database/{database}/table_metadata/?name={view}&schema=public"
        comment = await owner.fetchval("SELECT obj_description($1::text::regclass)", view)
        assert (await ask(superset, path))["comment"] == comment
        assert comment

    question = "SELECT max(unique_users) AS people FROM monthly_impact"
    body = {"database_id": database, "schema": "public", "sql": question}
    answer = await ask(superset, "sqllab/execute/", body)
    assert answer["data"] == [{"people": await owner.fetchval(question)}]
    body["sql"] = "SELECT * FROM flusher.months"
    with pytest.raises(AssertionError, match="permission denied for schema flusher"):
        await ask(superset, "sqllab/execute/", body)


async def chart(
    superset: aiohttp.ClientSession, dataset: int, period: str, grain: str, figure: str
) -> dict[date, int]:
    """The points of a bar chart: a figure by period."""
    axis = {"columnType": "BASE_AXIS", "sqlExpression": period, "label": period, "timeGrain": grain}
    metric = {"expressionType": "SQL", "sqlExpression": figure, "label": "figure"}
    body = {
        "datasource": {"id": dataset, "type": "table"},
        "queries": [{"columns": [axis | {"expressionType": "SQL"}], "metrics": [metric]}],
    }
    (result,) = (await ask(superset, "chart/data", body))["result"]
    return {
        datetime.fromtimestamp(row[period] / 1000, UTC).date(): row["figure"]
        for row in result["data"]
    }
