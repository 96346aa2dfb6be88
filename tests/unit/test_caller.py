"""collector/request/caller.py: a valid token identifies its user, and nothing else does."""

import base64
import hashlib
import hmac
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import jwt
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from collector.request.caller import TokenVerifier, User
from contract.calendar import SECOND_US
from contract.collector_metrics import CollectorMetrics
from contract.errors import Misconfigured
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
    settings = {
        "JWT_KEY": key,
        "JWT_ALGORITHMS": ",".join(algorithms),
        "JWT_AUDIENCE": audience,
        "JWT_USER_CLAIM": user_claim,
        "JWT_ROLE_CLAIM": role_claim,
        "JWT_ROLE_RANK": "admin,user",
        "JWT_LEEWAY_SECONDS": str(LEEWAY),
    }
    return TokenVerifier(settings, CollectorMetrics(CollectorRegistry()))


VERIFIER = verifier()


def token(claims: dict[str, Any], key: str = KEY, algorithm: str = "HS256") -> str:
    return jwt.encode(claims, key, algorithm=algorithm)


def handmade(header: object, payload: object, key: str = KEY) -> str:
    """A token with a valid HMAC-SHA256, whatever its header and payload are."""
    signed = f"{base64url(json.dumps(header).encode())}.{base64url(json.dumps(payload).encode())}"
    signature = hmac.new(key.encode(), signed.encode(), hashlib.sha256).digest()
    return f"{signed}.{base64url(signature)}"


def base64url(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def verified(text: str, by: TokenVerifier = VERIFIER) -> User | None:
    """The user that a token identifies, wherever it is sent; None: it is a visitor's."""
    in_header = by.verify(f"Bearer {text}", None)
    assert by.verify(None, text) == in_header
    return in_header


def user(claims: dict[str, Any], by: TokenVerifier = VERIFIER) -> User | None:
    """The user of a well-signed token with these claims."""
    return verified(token(claims), by)


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
def test_a_valid_token_identifies_its_user_and_role(scheme: str) -> None:
    claims = {"sub": "4711", "highest_role": "admin", "exp": wall_clock() / SECOND_US + 60}
    assert user(claims) == User("4711", "admin")
    assert VERIFIER.verify(f"{scheme} {token(claims)}", None) == User("4711", "admin")
    assert VERIFIER.verify(f"{scheme}   {token(claims)}  ", None) == User("4711", "admin")


@pytest.mark.parametrize(
    "authorization",
    [
        *(None, "", "Bearer", "Bearer ", "Bearer undefined", "Bearer null", "undefined"),
        *("Bearer ..", "Bearer a.b.c", "Bearer a.b.c.d.e", "Bearer é.é.é"),
        *("Bearer \udcff.\udcff.\udcff", "Bearer " + "[" * 4000),
        *(
            "Bearer " + base64url(header) + ".e30.e30"
            for header in (
                *(b"[" * 3000, b'{"a":' * 600, b"9" * 5000, b"[]", b"{}"),
                *(b'{"alg":[]}', b'{"alg":{"a":1}}'),
            )
        ),
        *("Basic dXNlcjpzZWNyZXQ=", "Token abc"),
    ],
)
def test_a_useless_token_is_a_visitors_and_never_an_error(authorization: str | None) -> None:
    assert VERIFIER.verify(authorization, None) is None
    assert VERIFIER.verify(None, (authorization or "").partition(" ")[2]) is None


@given(st.text(max_size=60) | st.text("abcdeyJ.0=-_", max_size=60))
def test_any_text_is_a_visitor_and_never_an_error(text: str) -> None:
    """The session counts nevertheless; a 5xx is never sent for bad input."""
    assert VERIFIER.verify(text, text) is None
    assert VERIFIER.verify(f"Bearer {text}", None) is None


@given(st.data())
def test_a_token_that_was_changed_anywhere_identifies_nobody(data: st.DataObject) -> None:
    good = token({"sub": "4711", "highest_role": "user"})
    header, payload, _ = good.split(".")
    # The last character of the signature has bits that decoders ignore.
    place = data.draw(st.integers(0, len(good) - 2))
    changed = good[:place] + ("A" if good[place] != "A" else "B") + good[place + 1 :]
    assert verified(changed) is None
    assert verified(f"{header}.{payload}.") is None


@pytest.mark.parametrize("claim", ["exp", "nbf"])
def test_a_token_is_valid_within_the_leeway_and_not_beyond(claim: str) -> None:
    direction = -1 if claim == "exp" else 1
    now = wall_clock() // SECOND_US
    assert user({"sub": "4711", claim: now + direction * 20}) == User("4711", "user")
    for seconds in (LEEWAY + 2, 3600):
        assert user({"sub": "4711", claim: now + direction * seconds}) is None


def unsigned(algorithm: str) -> list[str]:
    header = base64url(json.dumps({"alg": algorithm, "typ": "JWT"}).encode())
    payload = base64url(b'{"sub":"4711"}')
    signed = handmade({"alg": algorithm}, {"sub": "4711"})
    return [f"{header}.{payload}.", f"{header}.{payload}.e30", signed]


NO_USERS: tuple[object, ...] = (
    *(None, "", True, False, 1.5, [], ["4711"], {"id": "4711"}, "a\0b", "\ud800", "x" * 256),
)
NO_TIMES: tuple[object, ...] = ("soon", [], {}, "nan")


@pytest.mark.parametrize(
    "text",
    [
        token({"sub": "4711"}, OTHER_KEY),
        token({"highest_role": "admin"}),
        *(handmade({"alg": "HS256"}, {"sub": sub}) for sub in NO_USERS),
        *(handmade({"alg": "HS256"}, {"sub": "1", "exp": exp}) for exp in NO_TIMES),
        *(token({"sub": "4711"}, algorithm=algorithm) for algorithm in ("HS384", "HS512")),
        *(text for algorithm in ("none", "None", "NONE", "nOnE") for text in unsigned(algorithm)),
    ],
)
def test_a_token_without_a_user_or_a_valid_signature_identifies_nobody(text: str) -> None:
    assert verified(text) is None


def test_each_listed_algorithm_is_accepted() -> None:
    both = verifier(algorithms=("HS256", "HS512"))
    for algorithm in ("HS256", "HS512"):
        assert verified(token({"sub": "1"}, algorithm=algorithm), both) == User("1", "user")


def test_without_a_key_no_token_identifies_anybody() -> None:
    keyless = verifier(key="", algorithms=("RS256",))
    for text in (token({"sub": "1"}), handmade({"alg": "HS256"}, {"sub": "1"}, key="")):
        assert verified(text, keyless) is None


PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey


@pytest.fixture(scope="module")
def private_keys() -> dict[str, PrivateKey]:
    """One for each algorithm."""
    rsa_key = rsa.generate_private_key(65537, 2048)
    return {
        "RS256": rsa_key,
        "PS256": rsa_key,
        "ES256": ec.generate_private_key(ec.SECP256R1()),
        "EdDSA": ed25519.Ed25519PrivateKey.generate(),
    }


def private_pem(key: PrivateKey, form: PrivateFormat = PrivateFormat.PKCS8) -> str:
    return key.private_bytes(Encoding.PEM, form, NoEncryption()).decode()


def public_pem(key: PrivateKey) -> str:
    public = key.public_key()
    return public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


def test_a_public_key_verifies_what_its_private_key_signed(
    private_keys: dict[str, PrivateKey],
) -> None:
    key = private_keys["RS256"]
    rs256 = verifier(public_pem(key), ("RS256",))
    signed = token({"sub": "4711", "highest_role": "admin"}, private_pem(key), "RS256")
    assert verified(signed, rs256) == User("4711", "admin")
    assert verified(token({"sub": "4711"}), rs256) is None
    # The classic confusion: an HMAC whose key is the public key, which is no secret.
    forged = handmade({"alg": "HS256", "typ": "JWT"}, {"sub": "4711"}, public_pem(key))
    assert verified(forged, rs256) is None


def test_while_the_key_changes_tokens_of_both_keys_are_valid() -> None:
    pairs = [rsa.generate_private_key(65537, 2048) for _ in range(3)]
    for algorithm, signing, verifying in (
        ("HS256", [KEY, OTHER_KEY, KEY[1:]], [KEY, f"\n{OTHER_KEY}"]),
        ("RS256", [*map(private_pem, pairs)], [*map(public_pem, pairs[:2])]),
    ):
        both = verifier("".join(verifying), (algorithm,))
        users = [verified(token({"sub": "1"}, key, algorithm), both) for key in signing]
        assert users == [User("1", "user")] * 2 + [None]


BROKEN = "-----BEGIN PUBLIC KEY-----\nabc\n-----END PUBLIC KEY-----"


def bare_keys(pem: str) -> list[str]:
    """A public key in other forms than PEM, as platforms show and publish it: without its frame, in
    Base64, or as JSON; and beside one with a frame.
    """
    lines = pem.splitlines()[1:-1]
    encoded = base64.encodebytes(pem.encode()).decode()
    jwk = json.dumps({"kty": "OKP", "x": lines[-1]}, indent=2)
    bare = ["".join(lines), "\n".join(lines), encoded, encoded.replace("\n", ""), jwk]
    return [*bare, *(f"{each}\n" for each in bare), *(f"{pem}\n{each}" for each in bare)]


def published_certificate() -> str:
    """A certificate as `x5c` in the key set of an identity provider has it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name, day = x509.Name([]), datetime(2026, 11, 1, tzinfo=UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), 1, day, day + timedelta(days=1))
    return base64.b64encode(builder.sign(key, SHA256()).public_bytes(Encoding.DER)).decode()


def test_a_key_or_an_algorithm_that_can_not_be_used_is_misconfigured(
    private_keys: dict[str, PrivateKey],
) -> None:
    """In one line that does not quote the key."""
    old = PrivateFormat.TraditionalOpenSSL
    unusable: list[tuple[str, tuple[str, ...], str]] = [
        (KEY, ("RS256",), "JWT_KEY: is not a key for RS256"),
        (BROKEN, ("RS256",), "JWT_KEY: is not a key for RS256"),
        (public_pem(private_keys["RS256"]), ("HS256",), "JWT_KEY: is not a key for HS256"),
        (KEY, ("HS256", "HS255"), "JWT_ALGORITHMS: 'HS255' is not a known algorithm"),
        (KEY, ("none",), "JWT_ALGORITHMS: must not contain 'none'"),
        # A collector only verifies. A key that it does not have can't be stolen from it.
        *((private_pem(key), (name,), "is a private") for name, key in private_keys.items()),
        *((private_pem(private_keys[n], old), (n,), "is a private") for n in ("RS256", "ES256")),
        # Anybody could sign with a secret that is a public key.
        *(
            (key, ("HS256", name), "JWT_KEY: is neither a secret nor a public key in PEM")
            for name in ("RS256", "ES256", "EdDSA")
            for key in (*bare_keys(public_pem(private_keys[name])), published_certificate())
        ),
    ]
    for key, algorithms, why in unusable:
        with pytest.raises(Misconfigured, match=why) as caught:
            verifier(key, algorithms)
        assert "\n" not in str(caught.value)
        assert key not in str(caught.value)


def test_a_required_audience_must_be_in_the_token() -> None:
    platform = verifier(audience="platform")
    assert user({"sub": "1", "aud": "platform"}, platform) == User("1", "user")
    assert user({"sub": "1", "aud": ["other", "platform"]}, platform) == User("1", "user")
    assert user({"sub": "1", "aud": "other"}, platform) is None
    assert user({"sub": "1"}, platform) is None
    assert user({"sub": "1", "aud": "anything"}) == User("1", "user"), "none is required"


@pytest.mark.parametrize(("sub", "expected"), [(4711, "4711"), (0, "0"), (2**63, str(2**63))])
def test_a_users_number_is_the_same_as_its_text(sub: int, expected: str) -> None:
    """Older tokens have numbers. The same person must have one hash either way."""
    assert user({"sub": sub}) == user({"sub": expected}) == User(expected, "user")


def test_the_claims_names_are_settings() -> None:
    named = verifier(user_claim="user_id", role_claim="role")
    claims = {"sub": "wrong", "highest_role": "wrong", "user_id": 7, "role": "moderator"}
    assert user(claims, named) == User("7", "moderator")
    assert user({"sub": "wrong", "highest_role": "wrong"}, named) is None


def test_a_valid_token_in_the_header_comes_before_the_bodys() -> None:
    body = token({"sub": "body"})
    assert VERIFIER.verify(f"Bearer {token({'sub': 'header'})}", body) == User("header", "user")
    for useless in ("Bearer undefined", "Basic dTpw", "", "Bearer a.b.c"):
        assert VERIFIER.verify(useless, body) == User("body", "user")
