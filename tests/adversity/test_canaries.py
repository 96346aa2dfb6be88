"""Nothing personal leaves the collector's memory: canaries are sent everywhere and found nowhere.

Every field of a request carries a marker of this run: good requests, bad ones, and those that meet
a server that is frozen, full or killed. The servers write down whatever passes (append-only file,
RDB file, slow log, MONITOR, every statement with its parameters, debug lines), and our processes
log at their lowest level. Then every byte of all of it is searched, and the salt is searched for
in all places but those that keep it.

A search that can't find proves nothing, so afterwards a marker and a salt are planted in each of
these places, and have to be found there.

All of this happens once, and the tests search. `canaries/__init__.py` says where to read on.
"""

import asyncio
import base64
import json
from collections import Counter
from collections.abc import Iterator
from secrets import token_bytes
from urllib.parse import quote

import pytest

from tests.adversity.canaries.markers import Canaries, forms
from tests.adversity.canaries.stage import PLACES, set_up
from tests.adversity.canaries.story import Story, play

pytestmark = [pytest.mark.long, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    """The story, with all that was written down."""
    canaries = Canaries()
    with set_up(tmp_path_factory.mktemp("canaries"), canaries.key) as stage:
        yield asyncio.run(play(stage, canaries))


@pytest.mark.parametrize("kind", Canaries().forms())
def test_nothing_personal_is_written_down(story: Story, kind: str) -> None:
    wanted = story.canaries.forms()[kind]
    assert wanted
    # The environment has the key of the tokens, with a marker: it is a setting.
    assert story.stage.find(wanted, but=["environ"]) == {}


def test_no_clients_addresses_are_found_as_numbers(story: Story) -> None:
    addresses = [story.canaries.ipv4(last) for last in range(8)]
    found = Counter[str]()
    for each in addresses:
        written = each.packed, each.packed.hex().encode(), str(int(each)).encode()
        found.update(story.stage.find(written).keys())
    # The four bytes of one can be in a file by chance, those of three can't.
    assert {name: count for name, count in found.items() if count > 2} == {}


def test_what_a_broken_record_holds_stays_in_redis_where_it_came_from(story: Story) -> None:
    poison = forms(story.poison.encode())
    assert story.stage.find(poison, PLACES["append-only file"])
    assert story.stage.find(poison, PLACES["dead letters"])
    of_redis = ("redis", "monitor", "slow-log", "dead-letters")
    assert story.stage.find(poison, but=of_redis) == {}


def test_the_salt_is_in_the_files_of_its_server_and_nowhere_else(story: Story) -> None:
    salt = forms(story.salt)
    assert story.stage.find(salt, PLACES["append-only file"])
    assert story.stage.find(salt, PLACES["RDB file"])
    found = story.stage.find(salt, but=["monitor"])  # which shows it when it is made
    assert {name: at for name, at in found.items() if not name.endswith((".aof", ".rdb"))} == {}


@pytest.mark.parametrize("place", PLACES)
def test_what_is_planted_is_found_in_the(story: Story, place: str) -> None:
    for secret in (story.planted_marker, story.planted_salt):
        assert story.stage.find(forms(secret), PLACES[place])


@pytest.mark.parametrize("before", ["", "-", "--"])  # which shifts base64
def test_a_secret_is_recognised_however_it_is_written(before: str) -> None:
    secret = token_bytes(32)
    whole = before.encode() + secret + b"-"
    text = whole.decode("latin-1")
    encoded = base64.b64encode(whole), base64.urlsafe_b64encode(whole)
    in_hex = (whole.hex(), whole.hex(" "), whole.hex(":").upper())
    printed = (text, repr(text), repr(whole), repr(list(whole)), quote(whole), *in_hex, *encoded)
    for each in map(str, printed):
        for written in (each, json.dumps(each)):  # as our logs have it, by LOG_FORMAT
            assert any(form in written.encode() for form in forms(secret)), written
