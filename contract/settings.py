"""The settings: their names, defaults and meanings. All come from the environment."""

from typing import Final

from contract.keys import MOST_SHARDS
from contract.setting import Environment, Setting
from contract.setting_values import (
    parse_algorithms,
    parse_header_name,
    parse_kept_months,
    parse_keys,
    parse_networks,
    parse_switch,
    parse_timezone,
    parse_words,
    seconds_parser,
    url_parser,
    whether_set,
    whole_number_parser,
    without_password,
    word_parser,
)

REDIS_URL: Final = Setting(
    "REDIS_URL",
    url_parser("redis", "rediss", "unix"),
    None,
    "redis://localhost:6379/0",
    "the server of the session streams: redis://, rediss:// or unix://",
    without_password,
)
REDIS_CLUSTER: Final = Setting(
    "REDIS_CLUSTER",
    parse_switch,
    "0",
    "1",
    "1: REDIS_URL names nodes of a Redis Cluster, comma-separated",
)
SALT_REDIS_URL: Final = Setting(
    "SALT_REDIS_URL",
    url_parser("redis", "rediss", "unix"),
    "",
    "redis://salt.internal:6379/0",
    "a separate server for the salt, so that backups of the streams never hold it; unset: "
    "REDIS_URL",
    without_password,
)
DATABASE_URL: Final = Setting(
    "DATABASE_URL",
    url_parser("postgresql", "postgres"),
    None,
    "postgresql://impact@localhost/impact",
    "the PostgreSQL database; of several hosts, comma-separated, the one that accepts writes",
    without_password,
)
HOST: Final = Setting(
    "HOST", str, "0.0.0.0", "127.0.0.1", "the address on which the collector listens"
)
PORT: Final = Setting("PORT", whole_number_parser(1, 65535), "8000", "8001", "the collector's port")
MAX_CONNECTIONS: Final = Setting(
    "MAX_CONNECTIONS",
    whole_number_parser(1, 1_000_000),
    "10000",
    "2000",
    "the most connections that one collector accepts at once; a further one is answered 503",
)
ADMIN_HOST: Final = Setting(
    "ADMIN_HOST",
    str,
    "127.0.0.1",
    "127.0.0.1",
    "the address of the admin pages (health and metrics)",
)
SITES: Final = Setting(
    "SITES",
    parse_words,
    "*",
    "city.example.org,*.example.net",
    "the sites that are counted, as host names, comma-separated; *.example.org stands for all "
    "subdomains, * for every site",
)
NEW_SITES_PER_MINUTE: Final = Setting(
    "NEW_SITES_PER_MINUTE",
    whole_number_parser(1, 1_000_000),
    "100",
    "20",
    "how many new sites that SITES does not name one collector accepts in a minute (up to ten "
    "times as many at once); a further one is answered 503",
)
TRUSTED_PROXIES: Final = Setting(
    "TRUSTED_PROXIES",
    parse_networks,
    "none",
    "10.0.0.0/8,192.0.2.7",
    "addresses and networks whose X-Forwarded-* headers are trusted; the client is the rightmost "
    "address that is not one of them",
)
CLIENT_ADDRESS_HEADER: Final = Setting(
    "CLIENT_ADDRESS_HEADER",
    parse_header_name,
    "",
    "CF-Connecting-IP",
    "the one header in which trusted proxies write the client's address; unset: X-Forwarded-For, "
    "or Forwarded if there is none",
)
JWT_KEY: Final = Setting(
    "JWT_KEY",
    parse_keys,
    "",
    "a-secret-of-32-bytes-or-more",
    "the keys that verify tokens, at most 16: secrets, one per line, or PEM public keys, one after "
    "the other; unset: every session is a visitor's",
    whether_set,
)
JWT_ALGORITHMS: Final = Setting(
    "JWT_ALGORITHMS",
    parse_algorithms,
    "HS256",
    "RS256",
    "accepted signature algorithms, comma-separated",
)
JWT_AUDIENCE: Final = Setting("JWT_AUDIENCE", str, "", "platform", "required `aud` claim, if any")
JWT_USER_CLAIM: Final = Setting(
    "JWT_USER_CLAIM", str, "sub", "user_id", "the claim that holds the user's id"
)
JWT_ROLE_CLAIM: Final = Setting(
    "JWT_ROLE_CLAIM",
    parse_words,
    "highest_role,roles",
    "role",
    "the claims that may hold the user's role, comma-separated; the first that names one counts. "
    "A claim is a string, a list of strings, or a list of objects with `type`",
)
JWT_ROLE_RANK: Final = Setting(
    "JWT_ROLE_RANK",
    parse_words,
    "super_admin,admin,project_folder_moderator,project_moderator,user",
    "admin,moderator,user",
    "the roles, comma-separated, the highest first; of several the highest is stored",
)
JWT_LEEWAY_SECONDS: Final = Setting(
    "JWT_LEEWAY_SECONDS",
    seconds_parser(0, 3600),
    "30",
    "10",
    "how far the clock of the tokens' issuer may differ, for `exp` and `nbf`",
)
JWT_REQUIRE_EXPIRY: Final = Setting(
    "JWT_REQUIRE_EXPIRY", parse_switch, "0", "1", "1: a token without an expiry (`exp`) is refused"
)
CALENDAR_TIMEZONE: Final = Setting(
    "CALENDAR_TIMEZONE",
    parse_timezone,
    "UTC",
    "Europe/Brussels",
    "the time zone of the calendar months; all processes must have the same",
)


def _usual_shards(environment: Environment) -> str:
    """With one server, one stream costs the least (docs/capacity.md); in a cluster several share
    the load among its nodes.
    """
    return "8" if REDIS_CLUSTER.read(environment) else "1"


STREAM_SHARDS: Final = Setting(
    "STREAM_SHARDS",
    whole_number_parser(1, MOST_SHARDS),
    _usual_shards,
    "16",
    "how many streams the sessions are spread over; may be changed at any time; unset: 8 in a "
    "Redis Cluster, 1 without",
)
APPEND_DURABILITY: Final = Setting(
    "APPEND_DURABILITY",
    word_parser("server", "fsync", "replica"),
    "server",
    "fsync",
    "when a session is answered 2xx: `server`, as Redis's appendfsync says; `fsync`, when the "
    "append-only file is on disk; `replica`, when a replica has received it",
)
FLUSH_MAX_ROWS: Final = Setting(
    "FLUSH_MAX_ROWS",
    whole_number_parser(1, 1_000_000),
    "10000",
    "5000",
    "a batch is written at this size",
)
FLUSH_MAX_SECONDS: Final = Setting(
    "FLUSH_MAX_SECONDS", seconds_parser(0.01, 60), "1", "0.5", "a batch is written at this age"
)
FLUSH_CLAIM_SECONDS: Final = Setting(
    "FLUSH_CLAIM_SECONDS",
    seconds_parser(1, 86_400),
    "60",
    "120",
    "after this long a flusher takes over entries that another flusher has not acknowledged",
)
SESSIONS_KEPT_MONTHS: Final = Setting(
    "SESSIONS_KEPT_MONTHS",
    parse_kept_months,
    "0",
    "24",
    "how many finished months keep their sessions; older months keep only their counts; at least "
    "2, or 0: all months",
)
ENDED_MONTHS_KEEP: Final = Setting(
    "ENDED_MONTHS_KEEP",
    word_parser("hour", "day", "instant"),
    "hour",
    "day",
    "how exact the times of a closed month's sessions stay; `instant` keeps their ids, too",
)
LOG_LEVEL: Final = Setting(
    "LOG_LEVEL",
    word_parser("debug", "info", "warning", "error"),
    "info",
    "debug",
    "the least severe level that is logged",
)
LOG_FORMAT: Final = Setting(
    "LOG_FORMAT",
    word_parser("text", "json"),
    "text",
    "json",
    "log lines for people (`text`) or for machines (`json`)",
)
DEMO: Final = Setting(
    "DEMO", parse_switch, "0", "1", "1: serve the demo page /demo; not in production"
)
DEMO_TOKEN: Final = Setting(
    "DEMO_TOKEN",
    str,
    "",
    '"$(python -m embedded token)"',
    "the token with which the demo page signs its user in; everyone who opens the page gets it",
)


def admin_port(default: int) -> Setting[int]:
    """`ADMIN_PORT`, whose default differs by process."""
    return Setting(
        "ADMIN_PORT",
        whole_number_parser(0, 65535),
        str(default),
        str(default),
        "the port of the admin pages; 0: none",
    )
