"""collector/request/caller.py: who a token proves, and that nothing else proves anybody."""

import base64
import hashlib
import hmac
import json
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from collector.request.caller import TokenRules, TokenVerifier, User
from collector.request.roles import Roles
from contract.calendar import SECOND_US
from contract.collector_metrics import CollectorMetrics
from contract.errors import Misconfigured
from contract.settings import JWT_KEY
from runtime.clock import wall_clock

KEY = "a-secret-of-more-than-sixty-four-bytes-so-that-every-hmac-is-content-with-it"
OTHER_KEY = KEY[::-1]
LEEWAY = 30


def verifier(
    key: str = KEY,
    algorithms: tuple[str, ...] = ("HS256",),
    audience: str = "",
    user_claim: str = "sub",
    role_claim: str = "highest_role",
) -> TokenVerifier:
    return TokenVerifier(
        JWT_KEY.read({"JWT_KEY": key}),
        TokenRules(algorithms, audience, user_claim, LEEWAY),
        Roles((role_claim,), ("admin", "user")),
        CollectorMetrics(CollectorRegistry()),
    )


VERIFIER = verifier()


def token(claims: dict[str, Any], key: str = KEY, algorithm: str = "HS256") -> str:
    return jwt.encode(claims, key, algorithm=algorithm)


def handmade(header: object, payload: object, key: str = KEY) -> str:
    """A token with a good HMAC-SHA256, whatever it says."""
    signed = f"{base64url(json.dumps(header).encode())}.{base64url(json.dumps(payload).encode())}"
    signature = hmac.new(key.encode(), signed.encode(), hashlib.sha256).digest()
    return f"{signed}.{base64url(signature)}"


def base64url(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def user(claims: dict[str, Any], by: TokenVerifier = VERIFIER) -> User | None:
    """Who a well-signed token with these claims is, which must not depend on how it is sent."""
    text = token(claims)
    in_header = by.verify(f"Bearer {text}", None)
    assert by.verify(None, text) == in_header
    return in_header


def test_a_good_token_proves_its_user_and_role() -> None:
    claims = {"sub": "4711", "highest_role": "admin", "exp": wall_clock() / SECOND_US + 60}
    assert user(claims) == User("4711", "admin")


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
def test_the_scheme_is_read_in_any_case(scheme: str) -> None:
    assert VERIFIER.verify(f"{scheme} {token({'sub': '1'})}", None) == User("1", "user")
    assert VERIFIER.verify(f"{scheme}   {token({'sub': '1'})}  ", None) == User("1", "user")


def test_no_token_is_nobody() -> None:
    assert VERIFIER.verify(None, None) is None
    assert VERIFIER.verify("", "") is None


@pytest.mark.parametrize(
    "authorization",
    [
        "Bearer undefined",
        "Bearer null",
        "Bearer",
        "Bearer ",
        "Bearer ..",
        "Bearer a.b.c",
        "Bearer a.b.c.d.e",
        "Bearer \udcff.\udcff.\udcff",
        "Bearer é.é.é",
        "Bearer " + "[" * 4000,
        "Bearer " + base64url(b"[" * 3000) + ".e30.e30",
        "Bearer " + base64url(b'{"a":' * 600) + ".e30.e30",
        "Bearer " + base64url(b"9" * 5000) + ".e30.e30",
        "Bearer " + base64url(b"[]") + ".e30.e30",
        "Bearer " + base64url(b'{"alg":[]}') + ".e30.e30",
        "Bearer " + base64url(b'{"alg":{"a":1}}') + ".e30.e30",
        "Bearer " + base64url(b"{}") + ".e30.e30",
        "Basic dXNlcjpzZWNyZXQ=",
        "Token abc",
        "undefined",
    ],
)
def test_what_is_no_token_is_a_visitor_and_never_an_error(authorization: str) -> None:
    assert VERIFIER.verify(authorization, None) is None
    assert VERIFIER.verify(None, authorization.partition(" ")[2]) is None


@given(st.text(max_size=60) | st.text("abcdeyJ.0=-_", max_size=60))
def test_any_text_is_a_visitor_and_never_an_error(text: str) -> None:
    """On a start the session counts; a 5xx is never sent for bad input."""
    assert VERIFIER.verify(text, text) is None
    assert VERIFIER.verify(f"Bearer {text}", None) is None


@given(st.data())
def test_a_token_that_was_changed_anywhere_proves_nobody(data: st.DataObject) -> None:
    good = token({"sub": "4711", "highest_role": "user"})
    header, payload, _ = good.split(".")
    # The last character of the signature has bits that no decoder looks at.
    place = data.draw(st.integers(0, len(good) - 2))
    changed = good[:place] + ("A" if good[place] != "A" else "B") + good[place + 1 :]
    assert VERIFIER.verify(f"Bearer {changed}", None) is None
    assert VERIFIER.verify(f"Bearer {header}.{payload}.", None) is None


@pytest.mark.parametrize("claim", ["exp", "nbf"])
def test_a_token_is_good_within_the_leeway_and_not_beyond(claim: str) -> None:
    direction = -1 if claim == "exp" else 1
    now = wall_clock() // SECOND_US
    assert user({"sub": "4711", claim: now + direction * 20}) == User("4711", "user")
    for seconds in (LEEWAY + 2, 3600):
        assert user({"sub": "4711", claim: now + direction * seconds}) is None


@pytest.mark.parametrize("exp", ["soon", [], {}, "nan"])
def test_an_expiry_that_is_no_time_proves_nobody(exp: object) -> None:
    assert VERIFIER.verify(
        f"Bearer {handmade({'alg': 'HS256'}, {'sub': '1', 'exp': exp})}", None
    ) is (None)


def test_another_key_proves_nobody() -> None:
    assert VERIFIER.verify(f"Bearer {token({'sub': '4711'}, OTHER_KEY)}", None) is None


@pytest.mark.parametrize("algorithm", ["HS384", "HS512"])
def test_an_algorithm_that_is_not_listed_proves_nobody(algorithm: str) -> None:
    good = token({"sub": "4711"}, algorithm=algorithm)
    assert VERIFIER.verify(f"Bearer {good}", None) is None
    both = verifier(algorithms=("HS256", algorithm))
    assert both.verify(f"Bearer {good}", None) == User("4711", "user")


@pytest.mark.parametrize("algorithm", ["none", "None", "NONE", "nOnE"])
def test_a_token_without_a_signature_proves_nobody(algorithm: str) -> None:
    header = base64url(json.dumps({"alg": algorithm, "typ": "JWT"}).encode())
    payload = base64url(b'{"sub":"4711"}')
    signed = handmade({"alg": algorithm}, {"sub": "4711"})
    for text in (f"{header}.{payload}.", f"{header}.{payload}.e30", signed):
        assert VERIFIER.verify(f"Bearer {text}", None) is None


def test_without_a_key_nobody_is_proved_and_nothing_is_misconfigured() -> None:
    keyless = verifier(key="", algorithms=("RS256",))
    for text in (token({"sub": "1"}), handmade({"alg": "HS256"}, {"sub": "1"}, key="")):
        assert keyless.verify(f"Bearer {text}", text) is None


@pytest.fixture(scope="module")
def private_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, 2048)


@pytest.fixture(scope="module")
def private_pem(private_key: rsa.RSAPrivateKey) -> str:
    return private_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


@pytest.fixture(scope="module")
def public_pem(private_key: rsa.RSAPrivateKey) -> str:
    public = private_key.public_key()
    return public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


def test_a_public_key_verifies_what_its_private_key_signed(
    private_pem: str, public_pem: str
) -> None:
    rs256 = verifier(public_pem, ("RS256",))
    good = token({"sub": "4711", "highest_role": "admin"}, private_pem, "RS256")
    assert rs256.verify(f"Bearer {good}", None) == User("4711", "admin")
    assert rs256.verify(f"Bearer {token({'sub': '4711'})}", None) is None


def test_the_public_key_is_no_secret_to_sign_with(public_pem: str) -> None:
    """The classic confusion: an HMAC whose key is the public key that everybody has."""
    forged = handmade({"alg": "HS256", "typ": "JWT"}, {"sub": "4711"}, public_pem)
    assert verifier(public_pem, ("RS256",)).verify(f"Bearer {forged}", None) is None


def test_a_public_key_for_hmac_is_misconfigured(public_pem: str) -> None:
    with pytest.raises(Misconfigured) as caught:
        verifier(public_pem, ("HS256",))
    assert caught.value.setting == "JWT_KEY"
    assert "\n" not in str(caught.value)
    assert "BEGIN" not in str(caught.value)


@pytest.mark.parametrize("key", [KEY, "-----BEGIN PUBLIC KEY-----\nabc\n-----END PUBLIC KEY-----"])
def test_a_key_that_its_algorithm_can_not_use_is_misconfigured(key: str) -> None:
    with pytest.raises(Misconfigured) as caught:
        verifier(key, ("RS256",))
    assert caught.value.setting == "JWT_KEY"
    assert key not in str(caught.value)
    assert "\n" not in str(caught.value)


PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey


@pytest.fixture(scope="module")
def pairs(private_key: rsa.RSAPrivateKey) -> dict[str, PrivateKey]:
    """A pair of each kind."""
    return {
        "RS256": private_key,
        "PS256": private_key,
        "ES256": ec.generate_private_key(ec.SECP256R1()),
        "EdDSA": ed25519.Ed25519PrivateKey.generate(),
    }


@pytest.mark.parametrize(
    ("algorithm", "form"),
    [
        ("RS256", PrivateFormat.PKCS8),
        ("RS256", PrivateFormat.TraditionalOpenSSL),
        ("PS256", PrivateFormat.PKCS8),
        ("ES256", PrivateFormat.PKCS8),
        ("ES256", PrivateFormat.TraditionalOpenSSL),
        ("EdDSA", PrivateFormat.PKCS8),
    ],
)
def test_a_private_key_is_misconfigured(
    pairs: dict[str, PrivateKey], algorithm: str, form: PrivateFormat
) -> None:
    """A collector only verifies: what it need not have can't be stolen from it."""
    pem = pairs[algorithm].private_bytes(Encoding.PEM, form, NoEncryption()).decode()
    with pytest.raises(Misconfigured, match="JWT_KEY: is a private key"):
        verifier(key=pem, algorithms=(algorithm,))


@pytest.mark.parametrize("between", ["\n", ""], ids=["lines", "one line"])
@pytest.mark.parametrize("algorithm", ["RS256", "ES256", "EdDSA"])
def test_a_public_key_without_its_frame_is_no_secret(
    pairs: dict[str, PrivateKey], algorithm: str, between: str
) -> None:
    """As some platforms show it. Everybody knows it: who signs with it would be anybody."""
    public = pairs[algorithm].public_key()
    pem = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    bare = between.join(pem.splitlines()[1:-1])
    for key in (bare, f"{bare}\n", f"{pem}\n{bare}"):
        with pytest.raises(Misconfigured, match="BEGIN"):
            verifier(key=key, algorithms=("HS256", algorithm))


def test_an_unknown_algorithm_is_misconfigured() -> None:
    with pytest.raises(Misconfigured) as caught:
        verifier(algorithms=("HS256", "HS255"))
    assert caught.value.setting == "JWT_ALGORITHMS"


def test_no_algorithm_at_all_can_be_configured_to_mean_no_signature() -> None:
    with pytest.raises(Misconfigured):
        verifier(algorithms=("none",))


def test_a_required_audience_must_be_among_the_tokens() -> None:
    platform = verifier(audience="platform")
    assert user({"sub": "1", "aud": "platform"}, platform) == User("1", "user")
    assert user({"sub": "1", "aud": ["other", "platform"]}, platform) == User("1", "user")
    assert user({"sub": "1", "aud": "other"}, platform) is None
    assert user({"sub": "1"}, platform) is None


def test_an_audience_that_nobody_requires_does_not_matter() -> None:
    assert user({"sub": "1", "aud": "anything"}) == User("1", "user")


@pytest.mark.parametrize(("sub", "expected"), [(4711, "4711"), (0, "0"), (2**63, str(2**63))])
def test_a_numeric_user_is_its_text(sub: int, expected: str) -> None:
    """Tokens older than RFC 7519 have numbers; the same person must have one hash either way."""
    assert user({"sub": sub}) == user({"sub": expected}) == User(expected, "user")


@pytest.mark.parametrize(
    "sub", [None, "", True, False, 1.5, [], ["4711"], {"id": "4711"}, "a\0b", "\ud800", "x" * 256]
)
def test_a_user_that_is_no_plain_text_is_nobody(sub: object) -> None:
    text = handmade({"alg": "HS256"}, {"sub": sub})
    assert VERIFIER.verify(f"Bearer {text}", None) is None


def test_a_token_without_a_user_is_nobody() -> None:
    assert user({"highest_role": "admin"}) is None


def test_the_claims_names_are_settings() -> None:
    named = verifier(user_claim="user_id", role_claim="role")
    claims = {"sub": "wrong", "highest_role": "wrong", "user_id": 7, "role": "moderator"}
    assert user(claims, named) == User("7", "moderator")
    assert user({"sub": "wrong", "highest_role": "wrong"}, named) is None


@pytest.mark.parametrize("claims", [{}, {"highest_role": None}, {"highest_role": ""}])
def test_where_the_token_names_no_role_it_is_user(claims: dict[str, Any]) -> None:
    assert user({"sub": "4711", **claims}) == User("4711", "user")


@pytest.mark.parametrize(
    "role",
    [
        *("a\0b", "a\nb", "\x1b[31m", "\x7f", "\x9b", "\u202eb", "\u2028", " ", "\ud800"),
        "r" * 65,
        "é" * 33,
    ],
)
def test_a_role_that_postgresql_or_a_record_can_not_hold_never_gets_through(role: str) -> None:
    """One NUL or lone surrogate would kill a whole COPY."""
    found = VERIFIER.verify(
        f"Bearer {handmade({'alg': 'HS256'}, {'sub': '1', 'highest_role': role})}", None
    )
    assert found is None or found.role == "user"


def test_the_longest_role_gets_through() -> None:
    assert user({"sub": "1", "highest_role": "é" * 32}) == User("1", "é" * 32)


def test_the_header_comes_before_the_bodys_token() -> None:
    header, body = token({"sub": "header"}), token({"sub": "body"})
    assert VERIFIER.verify(f"Bearer {header}", body) == User("header", "user")


@pytest.mark.parametrize("authorization", ["Bearer undefined", "Basic dTpw", "", "Bearer a.b.c"])
def test_where_the_header_proves_nobody_the_bodys_token_may(authorization: str) -> None:
    assert VERIFIER.verify(authorization, token({"sub": "body"})) == User("body", "user")
