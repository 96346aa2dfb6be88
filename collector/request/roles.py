"""Step 4, its second half: which role a token names."""

from collections.abc import Iterator, Mapping, Sequence
from enum import StrEnum

from contract.record import ROLE_MAX_BYTES

DEFAULT_ROLE = "user"  # where a token names none that can be stored


class Found(StrEnum):
    """What was found: the labels of `impact_token_roles_total`, and no others."""

    RANKED = "ranked"  # the highest of those that JWT_ROLE_RANK has
    UNRANKED = "unranked"  # the only one, which it has not: kept as it is
    UNDECIDED = "undecided"  # several, and none that it has: nobody can tell the highest
    NONE = "none"


class Roles:
    """Reads roles in the forms that platforms' tokens have."""

    def __init__(self, claims: Sequence[str], rank: Sequence[str]) -> None:
        """As the settings say.

        Args:
            claims: where a role may be; the first that names one counts.
            rank: roles, the highest first.
        """
        self._claims = tuple(claims)
        self._places = {role: place for place, role in reversed([*enumerate(rank)])}

    def of(self, claims: Mapping[str, object]) -> tuple[str, Found]:
        """The highest role that a token's claims name, and how it was found.

        Of several that are all unknown to the rank none is chosen: `user`, as where there is none.
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
    """The roles that a claim names: a text, a list of texts, or of objects with a `type`."""
    for entry in value if isinstance(value, list) else [value]:
        role = entry.get("type") if isinstance(entry, dict) else entry
        if isinstance(role, str) and _can_be_stored(role):
            yield role


def _can_be_stored(role: str) -> bool:
    """Whether it is a name: no control character, which a report would print, nor a lone
    surrogate, which PostgreSQL can't hold; and no longer than a record has room for.
    """
    return role.isprintable() and not role.isspace() and 0 < len(role.encode()) <= ROLE_MAX_BYTES
