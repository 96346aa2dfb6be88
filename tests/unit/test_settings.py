"""contract/settings.py and its parsers: what each setting accepts, refuses and defaults to."""

from dataclasses import dataclass, field
from ipaddress import ip_network
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contract import settings
from contract.errors import Misconfigured
from contract.setting import Setting


@dataclass(frozen=True)
class Expected:
    """A setting's default (None: it is required), what it accepts, and what it refuses."""

    setting: Setting[Any]
    default: object
    good: dict[str, object]
    bad: tuple[str, ...] = field(default=())


def same(*texts: str) -> dict[str, object]:
    """Values that are read as they are written."""
    return dict(zip(texts, texts, strict=True))


NO_NUMBERS = ("eight", "-1", "1.5", "1e3", "0x10", "٣", "8 shards", "9" * 5000)
NO_SECONDS = ("-1", "soon", "nan", "inf")
NO_SWITCH = ("yes", "true", "on", "2", "-1")
NO_REDIS = ("localhost:6379", "http://localhost", "redis://", "redis", "rediss:", "redis://[::1")
_PEM = "-----BEGIN PUBLIC KEY-----\nabc\n-----END PUBLIC KEY-----"
_PEM_OF_EC = "-----BEGIN EC PUBLIC KEY-----\nabc\n-----END EC PUBLIC KEY-----"
_SWITCH: dict[str, object] = {"0": False, "1": True}

EXPECTED = [
    Expected(
        settings.REDIS_URL,
        None,
        same(
            *("redis://localhost", "redis://:secret@cache.internal:6379/2"),
            *("rediss://cache.internal:6380", "unix:///run/valkey.sock"),
        ),
        NO_REDIS,
    ),
    Expected(settings.REDIS_CLUSTER, False, _SWITCH, NO_SWITCH),
    Expected(settings.SALT_REDIS_URL, "", same("redis://salt/0"), NO_REDIS),
    Expected(
        settings.DATABASE_URL,
        None,
        same(
            *("postgresql://impact@localhost/impact", "postgresql:///impact?host=/run/postgresql"),
            "postgres://impact:secret@a.internal:5432,b.internal:5433/impact",
        ),
        ("localhost", "mysql://localhost/impact", "postgresql", "host=localhost", "redis://a"),
    ),
    Expected(settings.HOST, "0.0.0.0", same("127.0.0.1", "::1")),
    Expected(
        settings.PORT, 8000, {"1": 1, "65535": 65535, " 8080 ": 8080}, ("0", "65536", *NO_NUMBERS)
    ),
    Expected(settings.MAX_CONNECTIONS, 10_000, {"1": 1, "500": 500}, ("0", *NO_NUMBERS)),
    Expected(settings.ADMIN_HOST, "127.0.0.1", same("0.0.0.0")),
    Expected(settings.admin_port(9101), 9101, {"0": 0, "9200": 9200}, ("65536", *NO_NUMBERS)),
    Expected(
        settings.SITES,
        ("*",),
        {"a.example": ("a.example",), "a.example, *.b.example ,": ("a.example", "*.b.example")},
    ),
    Expected(settings.NEW_SITES_PER_MINUTE, 100, {"1": 1, "1000000": 10**6}, ("0", *NO_NUMBERS)),
    Expected(
        settings.TRUSTED_PROXIES,
        (),
        {
            "none": (),
            "10.0.0.0/8": (ip_network("10.0.0.0/8"),),
            "192.0.2.7, 2001:db8::/32": (ip_network("192.0.2.7/32"), ip_network("2001:db8::/32")),
            # An IPv6 address that maps an IPv4 one is compared as that.
            "::ffff:10.0.0.0/104": (ip_network("10.0.0.0/8"),),
            "::ffff:192.0.2.7": (ip_network("192.0.2.7/32"),),
        },
        (
            *("localhost", "10.0.0.1/8", "10.0.0.0/33", "10.0.0.0/8;192.0.2.7"),
            *("10.0.0.0/8 192.0.2.7", "0.0.0.0/0", "::/0", "::ffff:0:0/96", "10.0.0.0/8,::/0"),
        ),
    ),
    Expected(
        settings.CLIENT_ADDRESS_HEADER,
        "",
        same("CF-Connecting-IP", "x-real-ip"),
        ("X-Real-IP, CF-Connecting-IP", "X-Real-IP:", "X Real IP", "é"),
    ),
    Expected(
        settings.JWT_KEY,
        (),
        {
            "a-secret-of-32-bytes-or-more-....": ("a-secret-of-32-bytes-or-more-....",),
            r"not\na-pem-key": (r"not\na-pem-key",),
            "one secret\r\n\n  another \n": ("one secret", "another"),
            r"-----BEGIN PUBLIC KEY-----\nabc\n-----END PUBLIC KEY-----": (_PEM,),
            f"{_PEM}\n{_PEM_OF_EC}\n": (_PEM, _PEM_OF_EC),
            rf"{_PEM}\n{_PEM_OF_EC}".replace("\n", r"\n"): (_PEM, _PEM_OF_EC),
            f"a secret\n{_PEM}\nanother": (_PEM, "a secret", "another"),
            f"  {_PEM} {_PEM_OF_EC}  ": (_PEM, _PEM_OF_EC),
            _PEM.replace("\n", r"\r\n"): (_PEM.replace("\n", "\r\n"),),
        },
        (
            "-----BEGIN PUBLIC KEY-----\nabc",
            "-----BEGIN PUBLIC KEY-----\nabc\n-----END EC PUBLIC KEY-----",
            f"{_PEM}\nabc\n-----END PUBLIC KEY-----",
            # What is beside the key would be a secret, of one character.
            *(f'"{_PEM}"', f"{_PEM},{_PEM_OF_EC}", f"\ufeff{_PEM}"),
            "\n".join(f"secret {number}" for number in range(17)),
        ),
    ),
    Expected(
        settings.JWT_ALGORITHMS,
        ("HS256",),
        {"RS256": ("RS256",), "RS256,ES256": ("RS256", "ES256")},
    ),
    Expected(settings.JWT_AUDIENCE, "", same("platform")),
    Expected(settings.JWT_USER_CLAIM, "sub", same("user_id")),
    Expected(
        settings.JWT_ROLE_CLAIM,
        ("highest_role", "roles"),
        {"role": ("role",), "role, roles": ("role", "roles")},
        (",",),
    ),
    Expected(
        settings.JWT_ROLE_RANK,
        ("super_admin", "admin", "project_folder_moderator", "project_moderator", "user"),
        {"admin,user": ("admin", "user")},
        (" ,",),
    ),
    Expected(settings.JWT_LEEWAY_SECONDS, 30.0, {"0": 0.0, "60": 60.0}, ("3601", *NO_SECONDS)),
    Expected(settings.JWT_REQUIRE_EXPIRY, False, _SWITCH, NO_SWITCH),
    Expected(
        settings.CALENDAR_TIMEZONE,
        ZoneInfo("UTC"),
        {"Europe/Brussels": ZoneInfo("Europe/Brussels")},
        ("Brussels", "Europe", "../UTC", "/etc/localtime", "+02:00", "a" * 300, "Europe/\ud800"),
    ),
    Expected(settings.STREAM_SHARDS, 1, {"8": 8, "1024": 1024}, ("0", "1025", *NO_NUMBERS)),
    Expected(settings.FLUSH_MAX_ROWS, 10_000, {"1": 1, "500": 500}, ("0", *NO_NUMBERS)),
    Expected(
        settings.FLUSH_MAX_SECONDS,
        1.0,
        {"0.5": 0.5, "2": 2.0},
        ("0", "-inf", "1s", "1,5", *NO_SECONDS),
    ),
    Expected(settings.FLUSH_CLAIM_SECONDS, 60.0, {"120": 120.0}, ("0", *NO_SECONDS)),
    Expected(
        settings.ENDED_MONTHS_KEEP,
        "hour",
        {"hour": "hour", "DAY": "day", "instant": "instant"},
        ("minute", "1"),
    ),
    Expected(settings.SESSIONS_KEPT_MONTHS, 0, {"2": 2, "24": 24}, ("1", "-1", "all", "1201")),
    Expected(
        settings.LOG_LEVEL,
        "info",
        {"debug": "debug", "WARNING": "warning", "Error": "error"},
        ("verbose", "10", "info,debug"),
    ),
    Expected(settings.LOG_FORMAT, "text", {"json": "json", "JSON": "json"}, ("xml", "1")),
    Expected(
        settings.APPEND_DURABILITY, "server", same("server", "fsync", "replica"), ("always", "1")
    ),
    Expected(settings.DEMO, False, _SWITCH, NO_SWITCH),
    Expected(settings.DEMO_TOKEN, "", same("a.b.c")),
]
ALL = [pytest.param(each, id=each.setting.name) for each in EXPECTED]
BAD = [
    pytest.param(each.setting, text, id=f"{each.setting.name}={ascii(text)[:30]}")
    for each in EXPECTED
    for text in each.bad
]


def test_every_declared_setting_is_tested_here_and_every_promised_one_exists() -> None:
    declared = {each.name for each in vars(settings).values() if isinstance(each, Setting)}
    assert declared | {"ADMIN_PORT"} == {each.setting.name for each in EXPECTED}


@pytest.mark.parametrize("expected", ALL)
def test_unset_empty_and_blank_mean_the_default(expected: Expected) -> None:
    setting = expected.setting
    environments: list[dict[str, str]] = [{}, {setting.name: ""}, {setting.name: " \t\n"}]
    for environment in environments:
        if setting.default is None:
            with pytest.raises(Misconfigured, match="is not set"):
                setting.read(environment)
        else:
            assert setting.read(environment) == expected.default


def test_a_cluster_has_eight_shards_where_no_number_is_set() -> None:
    for shards in ("", " "):
        environment = {"REDIS_CLUSTER": "1", "STREAM_SHARDS": shards}
        assert settings.STREAM_SHARDS.read(environment) == 8
        assert settings.STREAM_SHARDS.show(environment) == "8"
    assert settings.STREAM_SHARDS.read({"REDIS_CLUSTER": "1", "STREAM_SHARDS": "3"}) == 3


@pytest.mark.parametrize("expected", ALL)
def test_a_setting_accepts_its_values_and_its_own_example(expected: Expected) -> None:
    setting = expected.setting
    for text, value in expected.good.items():
        assert setting.read({setting.name: text}) == value
    setting.read({setting.name: setting.example})
    assert setting.meaning


@pytest.mark.parametrize(("setting", "text"), BAD)
def test_a_wrong_value_is_one_line_with_its_name_the_problem_and_an_example(
    setting: Setting[object], text: str
) -> None:
    with pytest.raises(Misconfigured) as caught:
        setting.read({setting.name: text})
    assert_one_line(setting, caught.value)


def assert_one_line(setting: Setting[object], error: Misconfigured) -> None:
    line = str(error)
    assert error.setting == setting.name
    assert line.startswith(f"{setting.name}: ")
    assert line.endswith(f" (for example: {setting.name}={setting.example})")
    problem = line.removeprefix(f"{setting.name}: ").partition(" (for example")[0]
    assert len(problem) > 5
    assert len(line.splitlines()) == 1


def assert_value_or_one_line(setting: Setting[object], text: str) -> None:
    try:
        setting.read({setting.name: text})
    except Misconfigured as error:
        caught = error
    else:
        return
    assert_one_line(setting, caught)


@given(st.sampled_from([each.setting for each in EXPECTED]), st.text(max_size=20))
def test_any_text_is_a_value_or_one_line(setting: Setting[object], text: str) -> None:
    """Never a traceback."""
    assert_value_or_one_line(setting, text)


@pytest.mark.parametrize("text", ["a\nb", "\r\nx: y", "a\u2028b", "\x1b[31m", "redis\n://"])
def test_a_wrong_value_with_line_breaks_is_still_one_line(text: str) -> None:
    for expected in EXPECTED:
        assert_value_or_one_line(expected.setting, text)


@pytest.mark.parametrize(
    "setting", [settings.REDIS_URL, settings.SALT_REDIS_URL, settings.DATABASE_URL]
)
def test_the_password_of_a_wrong_url_is_not_repeated(setting: Setting[str]) -> None:
    with pytest.raises(Misconfigured) as caught:
        setting.read({setting.name: "http://impact:hunter2@db.internal/impact"})
    assert "hunter2" not in str(caught.value)
