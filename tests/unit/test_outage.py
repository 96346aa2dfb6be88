"""runtime/periodic.py: the end of an outage is one log line with its duration."""

from structlog.testing import capture_logs

from runtime.periodic import Outage
from tests.unit.steady import Steady


def test_an_outage_of_several_parts_ends_with_the_last_of_them_in_one_line() -> None:
    clock = Steady()
    outage = Outage("works again", clock)
    with capture_logs() as lines:
        outage.works("one")
        outage.fails("one")
        clock.seconds += 2
        outage.fails("one")
        outage.fails("other")
        clock.seconds += 1.25
        outage.works("one")
        outage.works("one")
        assert lines == []
        outage.works("other")
        outage.works("other")
        assert lines == [{"event": "works again", "lasted_seconds": 3.2, "log_level": "warning"}]
        clock.seconds += 60
        outage.fails("one")
        clock.seconds += 1
        outage.works("one")
    assert [line["lasted_seconds"] for line in lines] == [3.2, 1.0]
