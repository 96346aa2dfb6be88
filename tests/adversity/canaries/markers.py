"""The markers of one run, and every form in which a program could write one down."""

import base64
import json
import secrets
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address
from urllib.parse import quote

from jwt import PyJWS

from contract.calendar import SECOND_US
from runtime.clock import wall_clock
from tests.leftovers import escaped


def random_stem() -> str:
    """Letters that make no word, and no crawler's name."""
    return "".join(secrets.choice("kqxzvj") for _ in range(14))


def _octets(count: int) -> bytes:
    # All have three digits in decimal and two in hex: an address is written in one way.
    return bytes(100 + secrets.randbelow(100) for _ in range(count))


@dataclass(frozen=True, slots=True)
class Canaries:
    """Markers with a common part for each kind, which is what is searched for."""

    stem: str = field(default_factory=random_stem)
    network: bytes = field(default_factory=lambda: _octets(4))
    interface: bytes = field(default_factory=lambda: _octets(6))
    host: bytes = field(default_factory=lambda: _octets(3))
    signatures: set[bytes] = field(default_factory=set)

    def __call__(self, name: str) -> str:
        """A marker that says where it was sent."""
        return f"{self.stem}-{name}"

    @property
    def key(self) -> str:
        """Of the tokens: a setting of the collector."""
        return self("key of more than thirty-two bytes")

    @property
    def loopback(self) -> str:
        """An address of this machine that the collector sees as the other end."""
        return "127.{}.{}.{}".format(*self.host)

    def ipv4(self, last: int) -> IPv4Address:
        return IPv4Address(self.host + bytes((100 + last,)))

    def ipv6(self, last: int) -> IPv6Address:
        """An address with this run's network and, but for its last two bytes, interface."""
        end = struct.pack(">H", 0x2000 + last)
        return IPv6Address(b"\x20\x01\x0d\xb8" + self.network + self.interface + end)

    def token(self, **claims: object) -> str:
        expiry = wall_clock() // SECOND_US + 600
        document = {"sub": self("sub"), "email": self("email"), "exp": expiry, **claims}
        return self.signed(json.dumps(document).encode())

    def signed(self, payload: bytes, key: str = "") -> str:
        """Any bytes as a token. Two parts of it hold the stem, and the third is noted."""
        token = PyJWS().encode(payload, key or self.key, headers={"kid": self("kid")})
        self.signatures.add(token.rpartition(".")[2].encode()[:24])
        return token

    def forms(self) -> dict[str, set[bytes]]:
        """What must be nowhere, by its kind."""
        groups = self.ipv6(0).exploded.split(":")
        a, b, c = self.host
        ipv4 = f"{a}.{b}.{c}.", f"{a:02x}{b:02x}:{c:02x}64", self.loopback
        # Each half of an IPv6 address alone is too much.
        addresses = {":".join(groups[2:4]), ":".join(groups[4:7]), *ipv4}
        packed = forms(b"\x0d\xb8" + self.network) | forms(self.interface)
        return {
            "field of a request": forms(self.stem.encode()),
            "signature of a token": set(self.signatures),
            "address of a client": {text.encode() for text in addresses} | packed,
        }


def forms(secret: bytes) -> set[bytes]:
    """Every form in which bytes are written down: as they are, and as programs print them."""
    text, in_hex = secret.decode("latin-1"), (secret.hex(), secret.hex(" "), secret.hex(":"))
    printed = {
        text,
        repr(text)[1:-1],
        repr(secret)[2:-1],
        escaped(secret).decode(),
        quote(secret),
        "".join(f"\\{byte:03o}" for byte in secret),
        str(list(secret))[1:-1],
        *in_hex,
        *(digits.upper() for digits in in_hex),
        *_in_base64(secret),
    }
    in_json = {json.dumps(form)[1:-1] for form in printed}
    as_they_are = {secret, secret.upper(), text.encode("utf-16-le")}
    return as_they_are | {form.encode() for form in printed | in_json}


def _in_base64(secret: bytes) -> Iterator[str]:
    """What of a secret's base64 is the same, whatever stands before and behind it."""
    for before in range(3):
        for encode in (base64.b64encode, base64.urlsafe_b64encode):
            encoded = encode(bytes(before) + secret).decode()
            yield encoded[-(-before * 8 // 6) : (before + len(secret)) * 8 // 6]
