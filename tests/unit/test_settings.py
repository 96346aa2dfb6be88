"""contract/settings.py and its parsers: what each setting accepts and refuses.

The defaults stand in docs/settings.md, which test_settings_page.py compares.
"""

from ipaddress import ip_network
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from contract import settings
from contract.errors import Misconfigured
from contract.setting import Setting

ADMIN_PORT = settings.admin_port(9101)
ALL = [each for each in vars(settings).values() if isinstance(each, Setting)] + [ADMIN_PORT]
# From the least to the most.
NUMBERS = [
    *((settings.PORT, 1, 65_535), (ADMIN_PORT, 0, 65_535), (settings.STREAM_SHARDS, 1, 1024)),
    *((settings.MAX_CONNECTIONS, 1, 10**6), (settings.NEW_SITES_PER_MINUTE, 1, 10**6)),
    (settings.FLUSH_MAX_ROWS, 1, 10**6),
]
SECONDS = [
    (settings.JWT_LEEWAY_SECONDS, 0, 3600),
    (settings.FLUSH_MAX_SECONDS, 0.01, 60),
    (settings.FLUSH_CLAIM_SECONDS, 1, 86_400),
]
SWITCHES = [settings.REDIS_CLUSTER, settings.JWT_REQUIRE_EXPIRY, settings.DEMO]
WORDS = {
    settings.ENDED_MONTHS_KEEP: "hour day instant",
    settings.LOG_LEVEL: "debug info warning error",
    settings.LOG_FORMAT: "text json",
    settings.APPEND_DURABILITY: "server fsync replica",
}
# They are taken as they are written.
TEXTS = {
    settings.REDIS_URL: "redis://localhost redis://:secret@cache.internal:6379/2 "
    "rediss://cache.internal:6380 unix:///run/valkey.sock",
    settings.SALT_REDIS_URL: "redis://salt/0",
    settings.DATABASE_URL: "postgresql://impact@localhost/impact "
    "postgresql:///impact?host=/run/postgresql "
    "postgres://impact:secret@a.internal:5432,b.internal:5433/impact",
    **dict.fromkeys((settings.HOST, settings.ADMIN_HOST), "127.0.0.1 ::1"),
    settings.CLIENT_ADDRESS_HEADER: "CF-Connecting-IP x-real-ip",
    settings.JWT_AUDIENCE: "platform",
    settings.JWT_USER_CLAIM: "user_id",
    settings.DEMO_TOKEN: "a.b.c",
}
PEM = "-----BEGIN PUBLIC KEY-----\nabc\n-----END PUBLIC KEY-----"
PEM_OF_EC = "-----BEGIN EC PUBLIC KEY-----\nabc\n-----END EC PUBLIC KEY-----"
LISTS: dict[Setting[Any], dict[str, tuple[object, ...]]] = {
    settings.SITES: {"a.example, *.b.example ,": ("a.example", "*.b.example")},
    settings.JWT_ALGORITHMS: {"RS256": ("RS256",), "RS256,ES256": ("RS256", "ES256")},
    settings.JWT_ROLE_CLAIM: {"role": ("role",), "role, roles": ("role", "roles")},
    settings.JWT_ROLE_RANK: {"admin,user": ("admin", "user")},
    settings.TRUSTED_PROXIES: {
        "none": (),
        "10.0.0.0/8": (ip_network("10.0.0.0/8"),),
        "192.0.2.7, 2001:db8::/32": (ip_network("192.0.2.7/32"), ip_network("2001:db8::/32")),
        # An IPv6 address that maps an IPv4 one is compared as that.
        "::ffff:10.0.0.0/104": (ip_network("10.0.0.0/8"),),
        "::ffff:192.0.2.7": (ip_network("192.0.2.7/32"),),
    },
    settings.JWT_KEY: {
        "a-secret-of-32-bytes-or-more-....": ("a-secret-of-32-bytes-or-more-....",),
        r"not\na-pem-key": (r"not\na-pem-key",),
        "one secret\r\n\n  another \n": ("one secret", "another"),
        r"-----BEGIN PUBLIC KEY-----\nabc\n-----END PUBLIC KEY-----": (PEM,),
        f"{PEM}\n{PEM_OF_EC}\n": (PEM, PEM_OF_EC),
        rf"{PEM}\n{PEM_OF_EC}".replace("\n", r"\n"): (PEM, PEM_OF_EC),
        f"a secret\n{PEM}\nanother": (PEM, "a secret", "another"),
        f"  {PEM} {PEM_OF_EC}  ": (PEM, PEM_OF_EC),
        PEM.replace("\n", r"\r\n"): (PEM.replace("\n", "\r\n"),),
    },
}
GOOD: list[tuple[Setting[Any], str, object]] = [
    *((setting, f" {end} ", end) for setting, *ends in NUMBERS for end in ends),
    *((setting, str(end), end) for setting, *ends in SECONDS for end in (*ends, 1.5)),
    *((setting, text, text == "1") for setting in SWITCHES for text in "01"),
    *((setting, word.title(), word) for setting in WORDS for word in WORDS[setting].split()),
    *((setting, text, text) for setting in TEXTS for text in TEXTS[setting].split()),
    *((setting, text, value) for setting in LISTS for text, value in LISTS[setting].items()),
    (settings.SESSIONS_KEPT_MONTHS, "0", 0),
    (settings.SESSIONS_KEPT_MONTHS, "2", 2),
    (settings.CALENDAR_TIMEZONE, "Europe/Brussels", ZoneInfo("Europe/Brussels")),
]
NO_NUMBERS = ("eight", "-1", "1.5", "1e3", "0x10", "٣", "8 shards", "9" * 5000)
NO_SECONDS = ("-1", "soon", "nan", "inf", "-inf", "1s", "1,5")
NO_REDIS = ("localhost:6379", "http://localhost", "redis://", "redis", "rediss:", "redis://[::1")
BAD: list[tuple[Setting[Any], tuple[str, ...]]] = [
    *((each, (str(least - 1), str(most + 1), *NO_NUMBERS)) for each, least, most in NUMBERS),
    *((each, (str(least - 0.01), str(most + 1), *NO_SECONDS)) for each, least, most in SECONDS),
    *((each, ("yes", "true", "on", "2", "-1")) for each in SWITCHES),
    *((each, ("minute", "1", WORDS[each].replace(" ", ","))) for each in WORDS),
    (settings.REDIS_URL, NO_REDIS),
    (settings.SALT_REDIS_URL, NO_REDIS),
    (settings.DATABASE_URL, ("localhost", "mysql://a/b", "postgresql", "host=a", "redis://a")),
    (settings.CLIENT_ADDRESS_HEADER, ("X-Real-IP, CF-Connecting-IP", "X-Real-IP:", "X Y", "é")),
    (settings.JWT_ROLE_CLAIM, (",",)),
    (settings.JWT_ROLE_RANK, (" ,",)),
    (settings.SESSIONS_KEPT_MONTHS, ("1", "-1", "all", "1201")),
    (
        settings.TRUSTED_PROXIES,
        (
            *("localhost", "10.0.0.1/8", "10.0.0.0/33", "10.0.0.0/8;192.0.2.7"),
            *("10.0.0.0/8 192.0.2.7", "0.0.0.0/0", "::/0", "::ffff:0:0/96", "10.0.0.0/8,::/0"),
        ),
    ),
    (
        settings.JWT_KEY,
        (
            "-----BEGIN PUBLIC KEY-----\nabc",
            "-----BEGIN PUBLIC KEY-----\nabc\n-----END EC PUBLIC KEY-----",
            f"{PEM}\nabc\n-----END PUBLIC KEY-----",
            # What is beside the key would be a secret, of one character.
            *(f'"{PEM}"', f"{PEM},{PEM_OF_EC}", f"\ufeff{PEM}"),
            "\n".join(f"secret {number}" for number in range(17)),
        ),
    ),
    (
        settings.CALENDAR_TIMEZONE,
        ("Brussels", "Europe", "../UTC", "/etc/localtime", "+02:00", "a" * 300, "Europe/\ud800"),
    ),
]


def test_every_setting_is_tested_here() -> None:
    assert {setting.name for setting, *_ in GOOD} == {setting.name for setting in ALL}


@pytest.mark.parametrize("setting", ALL, ids=lambda setting: setting.name)
@pytest.mark.parametrize("blank", ["", " \t\n"])
def test_empty_and_blank_mean_unset(setting: Setting[Any], blank: str) -> None:
    environment = {setting.name: blank}
    if setting.default is None:
        with pytest.raises(Misconfigured, match="is not set"):
            setting.read(environment)
    else:
        assert setting.read(environment) == setting.read({})


def test_a_setting_accepts_its_values_and_its_own_example() -> None:
    for setting, text, value in GOOD:
        assert setting.read({setting.name: text}) == value, (setting.name, text)
    for setting in ALL:
        setting.read({setting.name: setting.example})


@pytest.mark.parametrize(("setting", "texts"), BAD, ids=[setting.name for setting, _ in BAD])
def test_a_wrong_value_is_one_line_with_its_name_the_problem_and_an_example(
    setting: Setting[Any], texts: tuple[str, ...]
) -> None:
    for text in texts:
        with pytest.raises(Misconfigured) as caught:
            setting.read({setting.name: text})
        assert_one_line(setting, caught.value)


def assert_one_line(setting: Setting[Any], error: Misconfigured) -> None:
    line = str(error)
    assert str(error).startswith(f"{setting.name}: ")
    assert line.startswith(f"{setting.name}: ")
    assert line.endswith(f" (for example: {setting.name}={setting.example})")
    problem = line.removeprefix(f"{setting.name}: ").partition(" (for example")[0]
    assert len(problem) > 5
    assert len(line.splitlines()) == 1


@given(st.sampled_from(ALL), st.text(max_size=20))
@example(settings.LOG_LEVEL, "a\nb")
@example(settings.LOG_LEVEL, "\r\nx: y")
@example(settings.TRUSTED_PROXIES, "a\u2028b")
@example(settings.REDIS_URL, "redis\n://")
def test_any_text_is_a_value_or_one_line(setting: Setting[Any], text: str) -> None:
    """Never a traceback."""
    try:
        setting.read({setting.name: text})
    except Misconfigured as error:
        assert_one_line(setting, error)


@pytest.mark.parametrize(
    "setting", [settings.REDIS_URL, settings.SALT_REDIS_URL, settings.DATABASE_URL]
)
def test_the_password_of_a_wrong_url_is_not_repeated(setting: Setting[str]) -> None:
    with pytest.raises(Misconfigured) as caught:
        setting.read({setting.name: "http://impact:hunter2@db.internal/impact"})
    assert "hunter2" not in str(caught.value)
