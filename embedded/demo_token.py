"""Signs the tokens of demo users."""

import jwt

DEMO_ALGORITHM = "HS256"


def sign_token(*, key: str, user: str, role: str | None, now: int, minutes: int) -> str:
    """A JWT that expires `minutes` after `now` (seconds since 1970), signed with a demo key."""
    claims: dict[str, str | int] = {"sub": user, "exp": now + 60 * minutes}
    if role is not None:
        claims["highest_role"] = role
    return jwt.encode(claims, key, algorithm=DEMO_ALGORITHM)
