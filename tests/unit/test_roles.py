"""collector/request/roles.py: which of a token's roles is stored."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.request.roles import Found, Roles
from contract.settings import JWT_ROLE_CLAIM, JWT_ROLE_RANK

ROLES = Roles(JWT_ROLE_CLAIM.read({}), JWT_ROLE_RANK.read({}))
ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner),
)


@pytest.mark.parametrize(
    ("claims", "role", "found"),
    [
        ({"highest_role": "admin"}, "admin", Found.RANKED),
        ({"roles": "admin"}, "admin", Found.RANKED),
        ({"roles": ["user", "own", "admin"]}, "admin", Found.RANKED),
        ({"roles": ["admin", "own", "user"]}, "admin", Found.RANKED),
        ({"roles": [{"type": "user"}, {"type": "super_admin"}]}, "super_admin", Found.RANKED),
        ({"roles": [{"type": "user"}, "admin", {"type": "own"}]}, "admin", Found.RANKED),
        ({"highest_role": ["admin"], "roles": "super_admin"}, "admin", Found.RANKED),
        ({"highest_role": "", "roles": ["admin"]}, "admin", Found.RANKED),
        ({"highest_role": "own", "roles": ["admin"]}, "own", Found.UNRANKED),
        ({"roles": ["own", "own"]}, "own", Found.UNRANKED),
        ({"roles": ["own", "another"]}, "user", Found.UNDECIDED),
        ({"roles": ["own", "user"]}, "user", Found.RANKED),
        ({"roles": ["own", "a\nb"]}, "own", Found.UNRANKED),
        ({"highest_role": "é" * 32}, "é" * 32, Found.UNRANKED),
        # A record or PostgreSQL can't hold these. One NUL or lone surrogate fails a whole COPY.
        *(
            ({"highest_role": role}, "user", Found.NONE)
            for role in (
                *(None, "", " ", "a\0b", "a\nb", "\x1b[31m", "\x7f", "\x9b", "\u202eb", "\u2028"),
                *("\ud800", "r" * 65, "é" * 33),
            )
        ),
        ({"roles": []}, "user", Found.NONE),
        ({"roles": {"type": "admin"}}, "admin", Found.RANKED),
        ({"roles": [{"name": "admin"}, {"type": ["admin"]}, [["admin"]], 7]}, "user", Found.NONE),
        ({}, "user", Found.NONE),
    ],
)
def test_the_highest_role_of_the_first_claim_that_has_one(
    claims: dict[str, object], role: str, found: Found
) -> None:
    assert ROLES.of(claims) == (role, found)


@given(ANY_JSON, ANY_JSON)
def test_any_claims_give_a_role_that_can_be_stored(one: object, other: object) -> None:
    role, _ = ROLES.of({"highest_role": one, "roles": other})
    assert role
    assert role.isprintable()
    assert len(role.encode()) <= 64
