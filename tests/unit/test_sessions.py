"""collector/sessions.py: the ids that the collector makes if a front-end sends none."""

from uuid import RFC_4122, UUID

from hypothesis import given
from hypothesis import strategies as st

from collector.sessions import _uuid7

INSTANTS = st.integers(0, 2**47 * 1000)


@given(INSTANTS)
def test_an_id_is_a_uuid_of_version_7_with_the_requests_millisecond(at_us: int) -> None:
    uuid = UUID(bytes=_uuid7(at_us))
    assert (uuid.version, uuid.variant) == (7, RFC_4122)
    assert uuid.int >> 80 == at_us // 1000
