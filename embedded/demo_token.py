"""Signs the tokens with which a demo user signs in."""

import jwt

DEMO_ALGORITHM = "HS256"


def sign_token(*, key: str, user: str, role: str | None, now: int, minutes: int) -> str:
    """A JWT for `user` that expires `minutes` after `now`, seconds since the epoch.

    `key` is one that was made for this, and never a platform's.
    """
    claims: dict[str, str | int] = {"sub": user, "exp": now + 60 * minutes}
    if role is not None:
        claims["highest_role"] = role
    return jwt.encode(claims, key, algorithm=DEMO_ALGORITHM)
