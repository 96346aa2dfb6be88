"""The settings: names, defaults and what each accepts. All come from the environment.

`Setting.read(environment)` gives the parsed value, or raises `Misconfigured` with one line that
names the setting, what is wrong and an example. An empty value counts as unset.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Final, Generic, TypeVar
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from contract.errors import Misconfigured
from contract.keys import MOST_SHARDS

T = TypeVar("T")

Environment = Mapping[str, str]
Network = IPv4Network | IPv6Network

# Each is tried with a token that none before it has signed.
MOST_KEYS: Final = 16
_DASHES = "-----"
_PEM = re.compile(r"-----BEGIN ([A-Z0-9 ]+)-----.*?-----END \1-----", re.DOTALL)
_MAPPED = IPv6Network("::ffff:0:0/96")  # RFC 4291, section 2.5.5.2


@dataclass(frozen=True, slots=True)
class Setting(Generic[T]):
    """One setting: `parse` raises ValueError, with what is wrong, for what it does not accept."""

    name: str
    parse: Callable[[str], T]
    default: str | None
    example: str
    meaning: str
    redact: Callable[[str], str] = str

    def show(self, environment: Environment) -> str:
        """The text in force, without what is secret in it, for a log."""
        text = environment.get(self.name, "").strip() or self.default or ""
        return self.redact(text)

    def read(self, environment: Environment) -> T:
        """The value in force.

        Raises:
            Misconfigured: it is missing and has no default, or is not what it should be.
        """
        text = environment.get(self.name, "").strip() or self.default
        if text is None:
            raise Misconfigured(self.name, "is not set", self._assignment())
        try:
            return self.parse(text)
        except ValueError as error:
            raise Misconfigured(self.name, str(error), self._assignment()) from None

    def _assignment(self) -> str:
        return f"{self.name}={self.example}"


def _text(text: str) -> str:
    return text


def _url(*schemes: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if not text:  # only a default is empty: the setting may be left out
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


def _whole_number(least: int, most: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        if not text.isascii() or not text.isdigit() or not least <= int(text) <= most:
            raise ValueError(f"{text!r} is not a whole number from {least} to {most}")
        return int(text)

    return parse


def _seconds(least: float, most: float) -> Callable[[str], float]:
    def parse(text: str) -> float:
        try:
            seconds = float(text)
        except ValueError:
            seconds = float("nan")
        if not least <= seconds <= most:
            raise ValueError(f"{text!r} is not a number of seconds from {least:g} to {most:g}")
        return seconds

    return parse


def _kept_months(text: str) -> int:
    months = _whole_number(0, 1200)(text)
    if months == 1:
        raise ValueError("is 0 (all months) or at least 2: sessions of last month still come late")
    return months


def _switch(text: str) -> bool:
    if text not in ("0", "1"):
        raise ValueError(f"{text!r} is neither 0 nor 1")
    return text == "1"


def _one_of(*words: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text.lower() not in words:
            raise ValueError(f"{text!r} is none of {', '.join(words)}")
        return text.lower()

    return parse


def _words(text: str) -> tuple[str, ...]:
    words = tuple(word.strip() for word in text.split(",") if word.strip())
    if not words:
        raise ValueError("names nothing")
    return words


def _algorithms(text: str) -> tuple[str, ...]:
    words = _words(text)
    if "none" in (word.lower() for word in words):
        raise ValueError("must not hold 'none', which anybody can sign with")
    return words


def _networks(text: str) -> tuple[Network, ...]:
    if text == "none":
        return ()
    networks = []
    for word in _words(text):
        try:
            network = ip_network(word, strict=False)
        except ValueError:
            raise ValueError(f"{word!r} is neither an address nor a network") from None
        if "/" in word and network != _network_of_interface(word):
            raise ValueError(f"{word!r} is an address within a network, which is {network}")
        networks.append(_unmapped(network))
        if networks[-1].prefixlen == 0:
            raise ValueError(f"{word!r} is everybody: any client could then choose its address")
    return tuple(networks)


def _network_of_interface(word: str) -> Network | None:
    try:
        return ip_network(word)
    except ValueError:
        return None


def _unmapped(network: Network) -> Network:
    """The IPv4 network that an IPv4-mapped one maps: addresses are compared in that form."""
    if isinstance(network, IPv6Network) and network.subnet_of(_MAPPED):
        bits = network.prefixlen - _MAPPED.prefixlen
        return ip_network((int(network.network_address) & 0xFFFF_FFFF, bits))
    return network


def _header_name(text: str) -> str:
    if text and not re.fullmatch(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", text):
        raise ValueError(f"{text!r} is no header's name")
    return text


def _timezone(text: str) -> ZoneInfo:
    try:
        return ZoneInfo(text)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError(f"{text!r} is not a time zone of the IANA database") from None


def _keys(text: str) -> tuple[str, ...]:
    if "-----BEGIN" in text:
        # A PEM key on one line, as most secret stores hand it over.
        text = text.replace("\\r", "\r").replace("\\n", "\n")
    blocks = tuple(block[0].strip() for block in _PEM.finditer(text))
    rest = (line.strip() for line in _PEM.sub(_DASHES, text).splitlines())
    secrets = tuple(line for line in rest if line.strip("- "))
    if any(_DASHES in secret for secret in secrets):
        # Its lines would else be secrets, and a public key's are known to everybody; or what stands
        # beside it would, and a quotation mark is soon guessed.
        raise ValueError("has a PEM key that is not whole, or not on lines of its own")
    if len(blocks) + len(secrets) > MOST_KEYS:
        raise ValueError(f"has more than {MOST_KEYS} keys")
    return blocks + secrets


def _without_password(url: str) -> str:
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


def _whether_set(text: str) -> str:
    return "set" if text else "unset"


_DSN = "postgresql://impact@localhost/impact"

REDIS_URL: Final = Setting(
    "REDIS_URL",
    _url("redis", "rediss", "unix"),
    None,
    "redis://localhost:6379/0",
    "the server of the session streams: redis://, rediss:// or unix://",
    _without_password,
)
REDIS_CLUSTER: Final = Setting(
    "REDIS_CLUSTER",
    _switch,
    "0",
    "1",
    "1: REDIS_URL names nodes of a Redis Cluster, comma-separated",
)
SALT_REDIS_URL: Final = Setting(
    "SALT_REDIS_URL",
    _url("redis", "rediss", "unix"),
    "",
    "redis://salt.internal:6379/0",
    "a separate server for the salt, so that backups of the streams never hold it; unset: "
    "REDIS_URL",
    _without_password,
)
DATABASE_URL: Final = Setting(
    "DATABASE_URL",
    _url("postgresql", "postgres"),
    None,
    _DSN,
    "the PostgreSQL database; of several hosts, comma-separated, the one that accepts writes",
    _without_password,
)
HOST: Final = Setting(
    "HOST", _text, "0.0.0.0", "127.0.0.1", "the address on which the collector listens"
)
PORT: Final = Setting("PORT", _whole_number(1, 65535), "8000", "8001", "the collector's port")
MAX_CONNECTIONS: Final = Setting(
    "MAX_CONNECTIONS",
    _whole_number(1, 1_000_000),
    "10000",
    "2000",
    "the most connections that one collector accepts at once; a further one is answered 503",
)
ADMIN_HOST: Final = Setting(
    "ADMIN_HOST",
    _text,
    "127.0.0.1",
    "127.0.0.1",
    "the address of the admin pages (health and metrics)",
)
SITES: Final = Setting(
    "SITES",
    _words,
    "*",
    "city.example.org,*.example.net",
    "the sites that are counted, as host names, comma-separated; *.example.org stands for all "
    "subdomains, * for every site",
)
NEW_SITES_PER_MINUTE: Final = Setting(
    "NEW_SITES_PER_MINUTE",
    _whole_number(1, 1_000_000),
    "100",
    "20",
    "how many new sites that SITES does not name one collector accepts in a minute (up to ten "
    "times as many at once); a further one is answered 503",
)
TRUSTED_PROXIES: Final = Setting(
    "TRUSTED_PROXIES",
    _networks,
    "none",
    "10.0.0.0/8,192.0.2.7",
    "addresses and networks whose X-Forwarded-* headers are trusted; the client is the rightmost "
    "address that is not one of them",
)
CLIENT_ADDRESS_HEADER: Final = Setting(
    "CLIENT_ADDRESS_HEADER",
    _header_name,
    "",
    "CF-Connecting-IP",
    "the one header in which trusted proxies write the client's address; unset: X-Forwarded-For, "
    "or Forwarded if there is none",
)
JWT_KEY: Final = Setting(
    "JWT_KEY",
    _keys,
    "",
    "a-secret-of-32-bytes-or-more",
    "the keys that verify tokens, at most 16: secrets, one per line, or PEM public keys, one after "
    "the other; unset: every session is a visitor's",
    _whether_set,
)
JWT_ALGORITHMS: Final = Setting(
    "JWT_ALGORITHMS",
    _algorithms,
    "HS256",
    "RS256",
    "accepted signature algorithms, comma-separated",
)
JWT_AUDIENCE: Final = Setting("JWT_AUDIENCE", _text, "", "platform", "required `aud` claim, if any")
JWT_USER_CLAIM: Final = Setting(
    "JWT_USER_CLAIM", _text, "sub", "user_id", "the claim that holds the user's id"
)
JWT_ROLE_CLAIM: Final = Setting(
    "JWT_ROLE_CLAIM",
    _words,
    "highest_role,roles",
    "role",
    "the claims that may hold the user's role, comma-separated; the first that names one counts. "
    "A claim is a string, a list of strings, or a list of objects with `type`",
)
JWT_ROLE_RANK: Final = Setting(
    "JWT_ROLE_RANK",
    _words,
    "super_admin,admin,project_folder_moderator,project_moderator,user",
    "admin,moderator,user",
    "the roles, comma-separated, the highest first; of several the highest is stored",
)
JWT_LEEWAY_SECONDS: Final = Setting(
    "JWT_LEEWAY_SECONDS",
    _seconds(0, 3600),
    "30",
    "10",
    "how far the clock of the tokens' issuer may differ, for `exp` and `nbf`",
)
JWT_REQUIRE_EXPIRY: Final = Setting(
    "JWT_REQUIRE_EXPIRY", _switch, "0", "1", "1: a token without an expiry (`exp`) is refused"
)
CALENDAR_TIMEZONE: Final = Setting(
    "CALENDAR_TIMEZONE",
    _timezone,
    "UTC",
    "Europe/Brussels",
    "the time zone of the calendar months; all processes must have the same",
)
STREAM_SHARDS: Final = Setting(
    "STREAM_SHARDS",
    _whole_number(1, MOST_SHARDS),
    "8",
    "16",
    "how many streams the sessions are spread over; may be changed at any time",
)
APPEND_DURABILITY: Final = Setting(
    "APPEND_DURABILITY",
    _one_of("server", "fsync", "replica"),
    "server",
    "fsync",
    "when a session is answered 2xx: `server`, as Redis's appendfsync says; `fsync`, when the "
    "append-only file is on disk; `replica`, when a replica has received it",
)
FLUSH_MAX_ROWS: Final = Setting(
    "FLUSH_MAX_ROWS",
    _whole_number(1, 1_000_000),
    "10000",
    "5000",
    "a batch is written at this size",
)
FLUSH_MAX_SECONDS: Final = Setting(
    "FLUSH_MAX_SECONDS", _seconds(0.01, 60), "1", "0.5", "a batch is written at this age"
)
FLUSH_CLAIM_SECONDS: Final = Setting(
    "FLUSH_CLAIM_SECONDS",
    _seconds(1, 86_400),
    "60",
    "120",
    "after this long a flusher takes over entries that another flusher has not acknowledged",
)
SESSIONS_KEPT_MONTHS: Final = Setting(
    "SESSIONS_KEPT_MONTHS",
    _kept_months,
    "0",
    "24",
    "how many finished months keep their sessions; older months keep only their counts; at least "
    "2, or 0: all months",
)
ENDED_MONTHS_KEEP: Final = Setting(
    "ENDED_MONTHS_KEEP",
    _one_of("hour", "day", "instant"),
    "hour",
    "day",
    "how exact the times of a closed month's sessions stay; `instant` keeps their ids, too",
)
LOG_LEVEL: Final = Setting(
    "LOG_LEVEL",
    _one_of("debug", "info", "warning", "error"),
    "info",
    "debug",
    "the least severe level that is logged",
)
LOG_FORMAT: Final = Setting(
    "LOG_FORMAT",
    _one_of("text", "json"),
    "text",
    "json",
    "log lines for people (`text`) or for machines (`json`)",
)
DEMO: Final = Setting("DEMO", _switch, "0", "1", "1: serve the demo page /demo; not in production")
DEMO_TOKEN: Final = Setting(
    "DEMO_TOKEN",
    _text,
    "",
    '"$(python -m embedded token)"',
    "the token with which the demo page signs its user in; everyone who opens the page gets it",
)


def admin_port(default: int) -> Setting[int]:
    """`ADMIN_PORT`, whose default differs by process."""
    return Setting(
        "ADMIN_PORT",
        _whole_number(0, 65535),
        str(default),
        str(default),
        "the port of the admin pages; 0: none",
    )
