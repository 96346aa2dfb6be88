"""The role that a token names."""

from collections.abc import Iterator, Mapping, Sequence
from enum import StrEnum

from contract.record import ROLE_MAX_BYTES

DEFAULT_ROLE = "user"  # if a token names no role that can be stored


class Found(StrEnum):
    """How the role was found: the labels of `impact_token_roles_total`."""

    RANKED = "ranked"  # the highest of the roles that are in JWT_ROLE_RANK
    UNRANKED = "unranked"  # a single role that is not in it: stored as it is
    UNDECIDED = "undecided"  # several roles, none of them in it: the highest is unknown
    NONE = "none"


class Roles:
    """Reads the highest role of a token."""

    def __init__(self, claims: Sequence[str], rank: Sequence[str]) -> None:
        """The first of `claims` that names a role counts. `rank` has the highest role first."""
        self._claims = tuple(claims)
        self._places = {role: place for place, role in reversed([*enumerate(rank)])}

    def of(self, claims: Mapping[str, object]) -> tuple[str, Found]:
        """The highest role that the claims name, and how it was found.

        It is `user` without a role, or with several of which none is in the rank.
        """
        for claim in self._claims:
            named = set(_named(claims.get(claim)))
            if not named:
                continue
            ranked = named & self._places.keys()
            if ranked:
                return min(ranked, key=self._places.__getitem__), Found.RANKED
            if len(named) == 1:
                return named.pop(), Found.UNRANKED
            return DEFAULT_ROLE, Found.UNDECIDED
        return DEFAULT_ROLE, Found.NONE


def _named(value: object) -> Iterator[str]:
    """The roles of a claim: a string, a list of strings, or a list of objects with `type`."""
    for entry in value if isinstance(value, list) else [value]:
        role = entry.get("type") if isinstance(entry, dict) else entry
        if isinstance(role, str) and _can_be_stored(role):
            yield role


def _can_be_stored(role: str) -> bool:
    # A lone surrogate is not printable, and PostgreSQL can't store it.
    return role.isprintable() and not role.isspace() and 0 < len(role.encode()) <= ROLE_MAX_BYTES
