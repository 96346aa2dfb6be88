"""The parsers of settings: each takes a setting's text and returns its value.

A parser raises ValueError with a message that says what is wrong with the text.
"""

import re
from collections.abc import Callable
from ipaddress import IPv4Network, IPv6Network, ip_interface, ip_network
from typing import Final
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

Network = IPv4Network | IPv6Network

# A token is tried with each key until one verifies it.
MOST_KEYS: Final = 16
_DASHES = "-----"
_PEM = re.compile(r"-----BEGIN ([A-Z0-9 ]+)-----.*?-----END \1-----", re.DOTALL)
_MAPPED = IPv6Network("::ffff:0:0/96")  # RFC 4291, section 2.5.5.2


def url_parser(*schemes: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if not text:  # the default of a setting that may be left out
            return text
        try:
            parts = urlsplit(text)
        except ValueError:
            raise ValueError("is not a URL") from None
        if parts.scheme not in schemes or not (parts.netloc or parts.path):
            wanted = " or ".join(f"{scheme}://" for scheme in schemes)
            raise ValueError(f"is not a URL that begins with {wanted}")
        return text

    return parse


def whole_number_parser(least: int, most: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        if not text.isascii() or not text.isdigit() or not least <= int(text) <= most:
            raise ValueError(f"{text!r} is not a whole number from {least} to {most}")
        return int(text)

    return parse


def seconds_parser(least: float, most: float) -> Callable[[str], float]:
    def parse(text: str) -> float:
        try:
            seconds = float(text)
        except ValueError:
            seconds = float("nan")
        if not least <= seconds <= most:
            raise ValueError(f"{text!r} is not a number of seconds from {least:g} to {most:g}")
        return seconds

    return parse


def parse_kept_months(text: str) -> int:
    months = whole_number_parser(0, 1200)(text)
    if months == 1:
        raise ValueError(
            "must be 0 (all months) or at least 2: sessions of last month may arrive late"
        )
    return months


def parse_switch(text: str) -> bool:
    if text not in ("0", "1"):
        raise ValueError(f"{text!r} is neither 0 nor 1")
    return text == "1"


def word_parser(*words: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text.lower() not in words:
            raise ValueError(f"{text!r} is none of {', '.join(words)}")
        return text.lower()

    return parse


def parse_words(text: str) -> tuple[str, ...]:
    words = tuple(word.strip() for word in text.split(",") if word.strip())
    if not words:
        raise ValueError("is an empty list")
    return words


def parse_algorithms(text: str) -> tuple[str, ...]:
    words = parse_words(text)
    if "none" in (word.lower() for word in words):
        raise ValueError("must not contain 'none': everybody could then sign tokens")
    return words


def parse_networks(text: str) -> tuple[Network, ...]:
    if text == "none":
        return ()
    networks = []
    for word in parse_words(text):
        try:
            network = ip_network(word, strict=False)
        except ValueError:
            raise ValueError(f"{word!r} is neither an address nor a network") from None
        if ip_interface(word).ip != network.network_address:
            raise ValueError(f"{word!r} is an address within a network, which is {network}")
        networks.append(_unmapped(network))
        if networks[-1].prefixlen == 0:
            raise ValueError(f"{word!r} is every address: any client could then choose its own")
    return tuple(networks)


def _unmapped(network: Network) -> Network:
    """An IPv4-mapped network as IPv4, because addresses are compared in that form."""
    if isinstance(network, IPv6Network) and network.subnet_of(_MAPPED):
        bits = network.prefixlen - _MAPPED.prefixlen
        return ip_network((int(network.network_address) & 0xFFFF_FFFF, bits))
    return network


def parse_header_name(text: str) -> str:
    if text and not re.fullmatch(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", text):
        raise ValueError(f"{text!r} is not a header name")
    return text


def parse_timezone(text: str) -> ZoneInfo:
    try:
        return ZoneInfo(text)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError(f"{text!r} is not a time zone of the IANA database") from None


def parse_keys(text: str) -> tuple[str, ...]:
    if "-----BEGIN" in text:
        # A PEM key on one line, as most secret stores give it.
        text = text.replace("\\r", "\r").replace("\\n", "\n")
    blocks = tuple(block[0].strip() for block in _PEM.finditer(text))
    rest = (line.strip() for line in _PEM.sub(_DASHES, text).splitlines())
    secrets = tuple(line for line in rest if line.strip("- "))
    if any(_DASHES in secret for secret in secrets):
        # Otherwise the lines of a public key, or a quotation mark beside it, would become secrets,
        # which are easy to guess.
        raise ValueError("has a PEM key that is incomplete, or has other text on its lines")
    if len(blocks) + len(secrets) > MOST_KEYS:
        raise ValueError(f"has more than {MOST_KEYS} keys")
    return blocks + secrets


def without_password(url: str) -> str:
    if not url:
        return url
    try:
        parts = urlsplit(url)
    except ValueError:
        return "unreadable"
    if "@" in parts.path + parts.query or parts.fragment:
        return "unreadable"  # a password with a character that is not percent-encoded
    credentials, at, hosts = parts.netloc.rpartition("@")
    user, colon, _ = credentials.partition(":")
    query = "&".join(
        f"{name}=***" if "pass" in name.lower() else f"{name}{equals}{value}"
        for name, equals, value in (pair.partition("=") for pair in parts.query.split("&"))
    )
    password = ":***" if colon else ""
    return f"{parts.scheme}://{user}{password}{at}{hosts}{parts.path}{'?' if query else ''}{query}"


def whether_set(text: str) -> str:
    return "set" if text else "unset"
