"""Step 4: who calls, as far as a token says."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeGuard

import jwt

from contract.errors import Misconfigured
from contract.record import ROLE_MAX_BYTES

USER_ID_MAX_BYTES = 255
DEFAULT_ROLE = "user"  # where a token names none that can be stored


@dataclass(frozen=True, slots=True)
class User:
    """A signed-in caller: held in memory for one request."""

    id: str
    role: str


class TokenVerifier:
    """Verifies JSON Web Tokens (RFC 7519) with PyJWT, by pinned algorithms only."""

    def __init__(
        self,
        key: str,
        algorithms: Sequence[str],
        audience: str,
        user_claim: str,
        role_claim: str,
    ) -> None:
        """As the settings say.

        Args:
            key: a secret or a PEM public key; empty: no token is ever good.
            algorithms: accepted signature algorithms.
            audience: the required `aud`, or empty.
            user_claim: the claim with the user's id.
            role_claim: the claim with the user's role.

        Raises:
            Misconfigured: an algorithm is unknown, or the key is not one for it.
        """
        self.weaknesses: list[str] = []
        for name in algorithms if key else ():
            try:
                algorithm = jwt.get_algorithm_by_name(name)
                weakness = algorithm.check_key_length(algorithm.prepare_key(key))
            except NotImplementedError:
                problem = f"{name!r} is not an algorithm that is known here"
                raise Misconfigured("JWT_ALGORITHMS", problem, "JWT_ALGORITHMS=HS256") from None
            except (jwt.InvalidKeyError, ValueError, TypeError):
                problem = f"is not a key for {name}"
                raise Misconfigured(
                    "JWT_KEY", problem, 'JWT_KEY="$(cat public.pem)" JWT_ALGORITHMS=RS256'
                ) from None
            if weakness:
                self.weaknesses.append(weakness)
        self._key = key
        self._algorithms = list(algorithms)
        self._audience = audience or None
        self._user_claim = user_claim
        self._role_claim = role_claim
        # Whose token it is and for how long is what counts. `sub` may be a number in tokens older
        # than RFC 7519: its type is checked below. `iat` differs by as much as clocks do.
        self._options: jwt.types.Options = {
            "verify_sub": False,
            "verify_jti": False,
            "verify_iat": False,
            "verify_aud": self._audience is not None,
        }

    def verify(self, authorization: str | None, token: str | None) -> User | None:
        """The user that a header or a body's token proves, or None: a visitor.

        A missing, malformed, expired or wrongly signed token proves nobody.
        """
        scheme, _, bearer = (authorization or "").partition(" ")
        if scheme.lower() == "bearer" and (user := self._user(bearer.strip())) is not None:
            return user
        return self._user(token) if token else None

    def _user(self, token: str) -> User | None:
        # A token has two dots: the front-ends' `Bearer undefined` costs nothing.
        if not self._key or token.count(".") != 2:
            return None
        try:
            claims = jwt.decode(
                token,
                self._key,
                algorithms=self._algorithms,
                audience=self._audience,
                options=self._options,
            )
        except (jwt.PyJWTError, ValueError):
            return None
        user_id = claims.get(self._user_claim)
        if isinstance(user_id, int) and not isinstance(user_id, bool):
            user_id = str(user_id)
        if not _is_plain(user_id, USER_ID_MAX_BYTES):
            return None
        role = claims.get(self._role_claim)
        return User(user_id, role if _is_plain(role, ROLE_MAX_BYTES) else DEFAULT_ROLE)


def _is_plain(value: object, longest: int) -> TypeGuard[str]:
    """Whether PostgreSQL can hold it: text without NUL or lone surrogates, of a sane length."""
    if not isinstance(value, str) or not value or "\0" in value:
        return False
    try:
        return len(value.encode()) <= longest
    except UnicodeEncodeError:
        return False
