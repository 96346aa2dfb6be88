"""The whole system with `deploy/`'s accounts: each process may do its work, and no more.

The users' file is Redis's as it is shipped: its placeholders are the passwords here. Over TLS, on
installed servers; `test_deployed_redis.py` has the accounts on the embedded Valkey, too.
"""

import asyncio
import json
import os
import shlex
import shutil
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from datetime import timedelta
from ipaddress import IPv4Address
from pathlib import Path

import aiohttp
import asyncpg
import jwt
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from contract import keys
from contract.calendar import from_us
from contract.record import FIELD
from embedded.launch import account_for
from embedded.ports import find_free_port
from embedded.postgres import PostgresServer
from embedded.valkey import ValkeyServer
from runtime.clock import wall_clock
from runtime.redis_client import connect_redis
from tests.acceptance.conftest import FIREFOX, SESSIONS
from tests.servers import POSTGRES_SETTINGS, CopiedPostgres, execute, installed
from tests.system import (
    JWT_KEY,
    ROOT,
    Program,
    System,
    eventually,
    run_command,
    run_successfully,
)

_HBA = """\
host all postgres 127.0.0.1/32 trust
hostssl all all 127.0.0.1/32 scram-sha-256
"""
ACL = ROOT / "deploy/redis-users.acl"


def make_certificate(folder: Path) -> Path:
    """A certificate of 127.0.0.1, which is its own authority, in a folder that is made; beside it
    its key.
    """
    folder.mkdir()
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    address = x509.IPAddress(IPv4Address("127.0.0.1"))
    now = from_us(wall_clock())
    certificate = (
        x509.CertificateBuilder()
        .issuer_name(name)
        .subject_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([address]), critical=False)
        .sign(key, hashes.SHA256())
    )
    path = folder / "certificate.pem"
    path.write_bytes(certificate.public_bytes(Encoding.PEM))
    file = path.with_suffix(".key")
    file.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    file.chmod(0o600)
    return path


@dataclass
class Guarded:
    """A system whose processes each have an account of their own."""

    system: System
    valkey: "_TlsValkey"
    postgres: PostgresServer
    certificate: Path

    def redis_url(self, module: str) -> str:
        account = f"impact-{module}:{module.upper()}_PASSWORD"
        # Encryption takes its time on a busy machine.
        query = f"ssl_ca_certs={self.certificate}&socket_connect_timeout=30"
        return f"rediss://{account}@127.0.0.1:{self.valkey.tls_port}/0?{query}"

    def dsn(self, role: str) -> str:
        url = f"postgresql://{role}:p-secret@127.0.0.1:{self.postgres.port}/impact"
        return f"{url}?sslmode=verify-full&sslrootcert={self.certificate}"

    def settings(self, module: str) -> dict[str, str]:
        settings = {"REDIS_URL": self.redis_url(module)}
        if module == "flusher":
            settings["DATABASE_URL"] = self.dsn("impact_flusher")
        return settings

    def start(self, module: str) -> Program:
        return self.system.program(module, **self.settings(module)).start()

    async def command(self, module: str, *arguments: str) -> str:
        environment = self.system.environment | self.settings(module)
        return await run_successfully(module, *arguments, **environment)


class _TlsValkey(ValkeyServer):
    """Redis with a second, encrypted port, and a users' file."""

    tls_port = 0

    def _command(self) -> list[str]:
        self.tls_port = find_free_port()
        return [*super()._command(), "--tls-port", str(self.tls_port)]


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    found = installed()
    if found is None or found.redis_binary is None or found.postgres_programs is None:
        pytest.skip("no installed redis-server and PostgreSQL: the embedded ones have no TLS")
    folder = tmp_path_factory.mktemp("guarded")
    folder.chmod(0o755)
    certificate = make_certificate(folder / "tls")
    config = {
        "aclfile": shlex.quote(str(ACL)),
        "tls-cert-file": str(certificate),
        "tls-key-file": str(certificate.with_suffix(".key")),
        "tls-ca-cert-file": str(certificate),
        "tls-auth-clients": "no",
    }
    hba = folder / "pg_hba.conf"
    hba.write_text(_HBA)
    valkey = _TlsValkey(folder / "redis", binary=found.redis_binary, config=config)
    data = folder / "postgres"
    settings = POSTGRES_SETTINGS | _tls_of(data, certificate) | {"hba_file": str(hba)}
    postgres = CopiedPostgres(data, bin_dir=found.postgres_programs, settings=settings)
    with (
        valkey,
        postgres,
        System(valkey.url, postgres.dsn(), folder / "logs", {"FLUSH_CLAIM_SECONDS": "1"}) as system,
    ):
        guarded = Guarded(system, valkey, postgres, certificate)
        asyncio.run(_start(guarded))
        yield guarded


def _tls_of(data_dir: Path, certificate: Path) -> dict[str, str]:
    """Settings of PostgreSQL, whose account alone may read the key."""
    data_dir.mkdir()
    key = shutil.copy(certificate.with_suffix(".key"), certificate.with_name("postgres.key"))
    if account := account_for(data_dir):
        os.chown(key, account.uid, account.gid)
    return {"ssl": "on", "ssl_cert_file": str(certificate), "ssl_key_file": str(key)}


async def _start(guarded: Guarded) -> None:
    await execute(
        guarded.postgres.dsn(),
        (ROOT / "deploy/postgres-roles.sql").read_text(),
        "ALTER ROLE impact_owner PASSWORD 'p-secret'",
        "ALTER ROLE impact_flusher PASSWORD 'p-secret'",
    )
    owner = {"DATABASE_URL": guarded.dsn("impact_owner")}
    await run_successfully("flusher", "migrate", **owner)
    programs = [guarded.start(module) for module in ("rotation", "collector", "flusher")]
    await asyncio.gather(*(program.ready() for program in programs))


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(headers={"User-Agent": FIREFOX}) as session:
        yield session


async def test_the_flushers_role_may_import_and_undo(guarded: Guarded, tmp_path: Path) -> None:
    file = tmp_path / "earlier.csv"
    file.write_text(
        f"id,monthly_user_hash,highest_role,created_at,site\n1,{'a1' * 32},,2024-01-05,a.example\n"
    )
    for more, said in (
        (["--dry-run"], "nothing was stored, this would be: 1 line: 1 imported"),
        ([], "1 line: 1 imported"),
        ([], "1 line: 0 imported, 1 known before"),
    ):
        output = await guarded.command("flusher", "import", str(file), *more)
        assert output.startswith(said)
    output = await guarded.command("flusher", "import", "--undo", "earlier.csv")
    assert output.endswith("taken back: 1 sessions\n")


async def test_every_step_from_a_session_to_a_replayed_dead_letter_works(
    guarded: Guarded, http: aiohttp.ClientSession
) -> None:
    url = guarded.system.url + SESSIONS
    async with http.post(url) as answer:
        assert answer.status == 201, await answer.text()
        session = (await answer.json())["data"]["id"]
    token = {"Authorization": f"Bearer {jwt.encode({'sub': 'ada', 'exp': 2**40}, JWT_KEY)}"}
    for target in (session, "current"):
        async with http.patch(f"{url}/{target}/upgrade", headers=token) as answer:
            assert answer.status == 202, await answer.text()
    reader = await asyncpg.connect(guarded.postgres.dsn())

    async def upgraded() -> int:
        query = "SELECT count(*) FROM sessions WHERE upgraded_at IS NOT NULL"
        return int(await reader.fetchval(query))

    await eventually(upgraded)
    # A salt that is replaced, and disposed of in every file.
    await guarded.command("rotation", "rotate", "--force")
    status = json.loads(await guarded.command("rotation", "status", "--json"))
    assert status["salt_made_because"] == "replaced"
    states = {place["place"]: place["state"] for place in status["last_disposal"]["places"]}
    assert set(states.values()) <= {"clean", "off"}, states

    async def told() -> int:
        return int(await reader.fetchval("SELECT count(*) FROM flusher.salts"))

    await eventually(told, lambda count: count == 2)
    await reader.close()
    # Dead letters can be shown, replayed and dropped.
    collector = connect_redis(guarded.redis_url("collector"))
    await collector.xadd(keys.stream(3), {FIELD: b"\xff no record"})
    await collector.aclose()

    async def letters() -> list[str]:
        lines = (await guarded.command("flusher", "dead", "list")).splitlines()[1:]
        return [line.split()[0] for line in lines]

    (first,) = await eventually(letters)
    assert "unknown_version" in await guarded.command("flusher", "dead", "show", first)
    await guarded.command("flusher", "dead", "replay", first)
    (again,) = await eventually(letters, lambda names: bool(names) and names != [first])
    await guarded.command("flusher", "dead", "drop", again)
    assert json.loads(await guarded.command("flusher", "status", "--json"))["dead_letters"] == 0
    for program in guarded.system.programs:
        assert "NOPERM" not in program.log
        assert "NoPermission" not in program.log
        assert "refuses" not in program.log, program.log
        if program.module != "flusher":  # these tests' PostgreSQL does not sync
            assert "breaks a promise" not in program.log, program.log
    # No account may read the settings: the other two are known by INFO.
    (log,) = [each.log for each in guarded.system.programs if each.module == "collector"]
    unverified = [line for line in log.splitlines() if "not be verified" in line]
    assert ["appendfsync" in line for line in unverified] == [True], log


async def test_the_flushers_role_may_write_rows_and_nothing_else(guarded: Guarded) -> None:
    database = await asyncpg.connect(guarded.dsn("impact_flusher"))
    for forbidden in (
        "CREATE TABLE mine ()",
        "CREATE TABLE flusher.mine ()",
        "DROP TABLE sessions",
        "ALTER TABLE sessions ADD COLUMN address inet",
        "TRUNCATE sessions",
        "CREATE ROLE another",
        "CREATE SCHEMA another",
        "SELECT * FROM pg_authid",
        "COPY sessions TO PROGRAM 'cat'",
        "DROP VIEW monthly_impact",
    ):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await database.execute(forbidden)
    await database.close()


async def test_a_server_of_another_authority_is_not_trusted(
    guarded: Guarded, tmp_path: Path
) -> None:
    other = make_certificate(tmp_path / "other")
    ours = str(guarded.certificate)
    for module, verb in (("rotation", "status"), ("flusher", "migrate")):
        settings = guarded.system.environment | guarded.settings("flusher")
        settings["REDIS_URL"] = guarded.redis_url("rotation")
        settings = {name: value.replace(ours, str(other)) for name, value in settings.items()}
        code, _, errors = await run_command(module, verb, **settings)
        assert (code, errors.count("\n")) == (1, 1), errors
        assert "ertificate" in errors
        assert "PASSWORD" not in errors
        assert "secret" not in errors
    settings = {"REDIS_URL": guarded.redis_url("rotation").replace(ours, "/nowhere.pem")}
    code, _, errors = await run_command("rotation", "status", **settings)
    assert (code, errors.count("\n")) == (2, 1), errors
    assert "ssl_ca_certs" in errors
