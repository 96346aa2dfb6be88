"""Makes the HTTP requests of a visit, as bytes. Pure, except for the time in a token.

They are what a browser's beacon sends, as far as the collector reads it, through a proxy that
passes the client's address on.
"""

import jwt

from bench.load.people import People, Token, Upgrade, Visit, role_in_token
from bench.load.sent_log import Who, id_text
from contract import settings
from contract.calendar import SECOND_US
from contract.errors import Misconfigured
from contract.setting import Environment
from runtime.clock import wall_clock

_PATH = "/web_api/v1/sessions"
_TOKEN_SECONDS = 86_400


class TokenSigner:
    """Signs tokens as the platform does, with the collector's shared secret."""

    def __init__(self, environment: Environment) -> None:
        """
        Raises:
            Misconfigured: JWT_KEY is missing, or is a public key, which can't sign.
        """
        keys = settings.JWT_KEY.read(environment)
        secrets = [key for key in keys if not key.startswith("-----BEGIN")]
        example = f"{settings.JWT_KEY.name}={settings.JWT_KEY.example}"
        if not keys:
            raise Misconfigured("JWT_KEY", "is not set, and users' tokens must be signed", example)
        algorithms = [each.upper() for each in settings.JWT_ALGORITHMS.read(environment)]
        shared = [each for each in algorithms if each in ("HS256", "HS384", "HS512")]
        if not secrets or not shared:
            problem = "is a public key, which can't sign: load needs a collector with a secret"
            raise Misconfigured("JWT_KEY", problem, example)
        self._key, self._algorithm = secrets[0], shared[0]
        self._user_claim = settings.JWT_USER_CLAIM.read(environment)
        self._role_claim = settings.JWT_ROLE_CLAIM.read(environment)[0]
        self._audience = settings.JWT_AUDIENCE.read(environment)

    def token(self, user: int, expires_in: int = _TOKEN_SECONDS) -> str:
        """A user's token, which expires in so many seconds from now (negative: it has expired)."""
        claims = {
            "aud": self._audience,
            self._user_claim: f"user-{user}",
            self._role_claim: role_in_token(user),
            "exp": wall_clock() // SECOND_US + expires_in,
        }
        given = {name: value for name, value in claims.items() if value}
        return jwt.encode(given, self._key, self._algorithm)


class RequestBuilder:
    """Makes the requests of people's visits."""

    def __init__(self, people: People, signer: TokenSigner, host: str) -> None:
        """`host` is the collector's, with its port."""
        self._people = people
        self._signer = signer
        self._host = host

    def start(self, visit: Visit, session_id: bytes) -> bytes:
        """`POST /sessions` with the client's id."""
        token = authorization = ""
        match visit.token:
            case Token.HEADER:
                authorization = _bearer(self._signer.token(visit.user))
            case Token.BODY:
                token = f', "token": "{self._signer.token(visit.user)}"'
            case Token.UNDEFINED:
                authorization = _bearer("undefined")
            case Token.EXPIRED:
                authorization = _bearer(self._signer.token(visit.user, -60))
            case Token.NONE:
                pass
        # What `sendBeacon` sends without a preflight, or what other front-ends do.
        kind = "text/plain;charset=UTF-8" if visit.visitor % 2 else "application/json"
        body = f'{{"id": "{id_text(session_id)}"{token}}}'
        return self._request("POST", _PATH, visit, f"{authorization}Content-Type: {kind}\r\n", body)

    def upgrade(self, visit: Visit, session_id: bytes) -> bytes:
        """`PATCH` or `POST /sessions/{id}/upgrade`, or that of `current`."""
        named = "current" if visit.upgrade is Upgrade.CURRENT else id_text(session_id)
        path = f"{_PATH}/{named}/upgrade"
        method = "POST" if visit.visitor % 4 == 0 else "PATCH"
        token = self._signer.token(visit.user)
        if visit.user % 2:
            return self._request(method, path, visit, _bearer(token), "")
        body = f'{{"token": "{token}"}}'
        return self._request(method, path, visit, "Content-Type: text/plain\r\n", body)

    def _request(self, method: str, path: str, visit: Visit, headers: str, body: str) -> bytes:
        people = self._people
        # The left one is what the client claims; it must not count.
        claimed = "198.51.100.1, " if visit.who is Who.VISITOR and visit.visitor % 5 == 0 else ""
        return (
            f"{method} {path} HTTP/1.1\r\nHost: {self._host}\r\n"
            f"Origin: https://{visit.site}\r\n"
            f"X-Forwarded-For: {claimed}{people.address(visit)}\r\n"
            f"User-Agent: {people.user_agent(visit)}\r\n{headers}"
            f"Content-Length: {len(body)}\r\n\r\n{body}"
        ).encode("ascii")


def _bearer(token: str) -> str:
    return f"Authorization: Bearer {token}\r\n"
