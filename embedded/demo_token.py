"""Signs the tokens with which a demo user signs in."""

import jwt

from embedded.errors import CannotRun


def sign_token(*, key: str, user: str, role: str | None, now: int, minutes: int) -> str:
    """A JWT (HS256) for `user` that expires `minutes` after `now`, seconds since the epoch.

    CannotRun if `key` is a public key, with which nobody can sign.
    """
    claims: dict[str, str | int] = {"sub": user, "exp": now + 60 * minutes}
    if role is not None:
        claims["highest_role"] = role
    try:
        return jwt.encode(claims, key, algorithm="HS256")
    except jwt.InvalidKeyError:
        raise CannotRun(
            "JWT_KEY of the running system is a public key, which can't sign: unset it before "
            "`make run` for a demo key"
        ) from None
