"""Who the caller is, according to the token."""

import warnings
from base64 import b64decode
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeGuard

import jwt
import structlog
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import load_der_public_key
from cryptography.x509 import load_der_x509_certificate

from collector.request.roles import Found, Roles
from contract import settings
from contract.collector_metrics import CollectorMetrics
from contract.errors import Misconfigured
from contract.setting import Environment

USER_ID_MAX_BYTES = 255
# If so many users in a row have no role, the setting is probably wrong.
HINT_AFTER = 100

_EXAMPLE = 'JWT_KEY="$(cat public.pem)" JWT_ALGORITHMS=RS256'

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class User:
    """A caller with a valid token. Kept in memory for one request."""

    id: str
    role: str


class _Key(NamedTuple):
    """A key as PyJWT has parsed it, and the algorithms that it fits."""

    prepared: Any
    algorithms: list[str]


class TokenVerifier:
    """Verifies JSON Web Tokens (RFC 7519) with PyJWT, by pinned algorithms only."""

    def __init__(self, environment: Environment, metrics: CollectorMetrics) -> None:
        """By the settings `JWT_…`. Any of the keys verifies a token.

        Raises:
            Misconfigured: an algorithm is unknown, a key fits no algorithm, an algorithm has no
                key, or a key is a private key or a public key that would be used as a secret.
        """
        keys = settings.JWT_KEY.read(environment)
        algorithms = settings.JWT_ALGORITHMS.read(environment)
        _refuse_public_secrets([key for key in keys if "-----BEGIN" not in key])
        self._keys = [_prepare(key, algorithms) for key in keys]
        for name in algorithms if keys else ():
            if not any(name in key.algorithms for key in self._keys):
                raise _no_key(name)
        # A short key is logged above. PyJWT would warn again at the first token.
        warnings.simplefilter("ignore", jwt.InsecureKeyLengthWarning)
        self._audience = settings.JWT_AUDIENCE.read(environment) or None
        self._user_claim = settings.JWT_USER_CLAIM.read(environment)
        self._leeway = settings.JWT_LEEWAY_SECONDS.read(environment)
        self._roles = Roles(
            settings.JWT_ROLE_CLAIM.read(environment), settings.JWT_ROLE_RANK.read(environment)
        )
        self._found = {found: metrics.token_roles.labels(found) for found in Found}
        self._without_expiry = metrics.tokens_without_expiry
        self._warned_of_expiry = False
        # The number of users, all without a role; None once one had a role, or it was logged.
        self._without_role: int | None = 0
        # `sub` may be a number in tokens older than RFC 7519. `iat` may be in the future if clocks
        # differ.
        self._options: jwt.types.Options = {
            "verify_sub": False,
            "verify_jti": False,
            "verify_iat": False,
            "verify_aud": self._audience is not None,
            "require": ["exp"] if settings.JWT_REQUIRE_EXPIRY.read(environment) else [],
        }

    def verify(self, authorization: str | None, token: str | None) -> User | None:
        """The user of a valid token in the header or the body; None: a visitor."""
        scheme, _, bearer = (authorization or "").partition(" ")
        if scheme.lower() == "bearer" and (user := self._user(bearer.strip())) is not None:
            return user
        return self._user(token) if token else None

    def _user(self, token: str) -> User | None:
        # A quick check, because front-ends send `Bearer undefined` for visitors.
        if token.count(".") != 2:
            return None
        claims = self._claims(token)
        if claims is None:
            return None
        user_id = claims.get(self._user_claim)
        if isinstance(user_id, int) and not isinstance(user_id, bool):
            user_id = str(user_id)
        if not _is_plain(user_id, USER_ID_MAX_BYTES):
            return None
        if "exp" not in claims:
            self._count_without_expiry()
        role, found = self._roles.of(claims)
        self._count_role(found)
        return User(user_id, role)

    def _claims(self, token: str) -> Mapping[str, object] | None:
        for key in self._keys:
            try:
                return jwt.decode(
                    token,
                    key.prepared,
                    algorithms=key.algorithms,
                    audience=self._audience,
                    options=self._options,
                    leeway=self._leeway,
                )
            except (jwt.InvalidSignatureError, jwt.InvalidAlgorithmError, jwt.InvalidKeyError):
                continue  # another key may have signed it
            except (jwt.PyJWTError, ValueError):
                return None
        return None

    def _count_without_expiry(self) -> None:
        self._without_expiry.inc()
        if not self._warned_of_expiry:
            self._warned_of_expiry = True
            log.warning(
                "a token without an expiry (`exp`) was accepted: it stays valid forever",
                to_do="have the platform set `exp`, then JWT_REQUIRE_EXPIRY=1 here",
            )

    def _count_role(self, found: Found) -> None:
        self._found[found].inc()
        if self._without_role is None:
            return
        self._without_role = self._without_role + 1 if found is Found.NONE else None
        if self._without_role == HINT_AFTER:
            self._without_role = None
            log.warning(
                "no token has named a role so far: all users are stored as `user`",
                tokens=HINT_AFTER,
                to_do="if your tokens name roles, name their claim in JWT_ROLE_CLAIM",
            )


def _refuse_public_secrets(secrets: Sequence[str]) -> None:
    """Raises Misconfigured for a public key in another form than PEM, on one or more lines.

    As a secret it would let everybody sign tokens.
    """
    for text in (*secrets, "".join(secrets)):
        if _is_public_key(text):
            raise Misconfigured("JWT_KEY", "is neither a secret nor a public key in PEM", _EXAMPLE)


def _is_public_key(text: str) -> bool:
    """Whether it is a JSON Web Key, or the Base64 of PEM, of a public key or of a certificate."""
    if '"kty"' in text:
        return True
    try:
        decoded = b64decode(text)
    except ValueError:
        return False
    for load in (load_der_public_key, load_der_x509_certificate):
        with suppress(ValueError, UnsupportedAlgorithm):
            load(decoded)
            return True
    return decoded.startswith(b"-----BEGIN")


def _prepare(key: str, algorithms: Sequence[str]) -> _Key:
    fit = []
    prepared = None
    for name in algorithms:
        try:
            algorithm = jwt.get_algorithm_by_name(name)
            prepared = algorithm.prepare_key(key)
            weakness = algorithm.check_key_length(prepared)
        except NotImplementedError:  # as PyJWT says that it does not know the name
            problem = f"{name!r} is not a known algorithm"
            raise Misconfigured("JWT_ALGORITHMS", problem, "JWT_ALGORITHMS=HS256") from None
        except (jwt.InvalidKeyError, ValueError, TypeError):
            continue
        if hasattr(prepared, "private_bytes"):
            problem = "is a private key, but only the public key is needed: use that"
            raise Misconfigured("JWT_KEY", problem, _EXAMPLE)
        fit.append(name)
        if weakness:
            log.warning(
                "JWT_KEY is short: a person who guesses it can sign in as any user",
                why=weakness,
                to_do="have the platform sign with a longer key, and set JWT_KEY to it: "
                "openssl rand -hex 32",
            )
    if not fit:
        raise _no_key(" or ".join(algorithms))
    return _Key(prepared, fit)


def _no_key(algorithms: str) -> Misconfigured:
    return Misconfigured("JWT_KEY", f"is not a key for {algorithms}", _EXAMPLE)


def _is_plain(value: object, longest: int) -> TypeGuard[str]:
    """Whether it is a text without NUL and lone surrogates, and of at most `longest` bytes."""
    if not isinstance(value, str) or not value or "\0" in value:
        return False
    try:
        return len(value.encode()) <= longest
    except UnicodeEncodeError:
        return False
