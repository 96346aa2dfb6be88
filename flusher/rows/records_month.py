"""What records of one month have in common, worked out once for a batch. Pure."""

from datetime import UTC
from typing import Final

from contract.calendar import DAY_US, Month
from contract.errors import DeadLetter
from contract.record import SessionStarted, SessionUpgraded, decode
from flusher.rows.copy_format import RowTemplate

# A month in any time zone is within a day of UTC's; as much again for clocks.
_ROOM_US: Final = 2 * DAY_US
# How far from both ends of a month (UTC) a session is that nobody sends again in another month.
_INSIDE_US: Final = 3 * DAY_US


class RecordsMonth:
    """What records of one month are checked against, and the templates of their rows."""

    __slots__ = (
        "begins_us",
        "ends_us",
        "first_day",
        "inside_from_us",
        "inside_to_us",
        "month",
        "of_events",
        "templates",
        "upgrades_texts",
    )

    def __init__(self, month: Month) -> None:
        begins_us, ends_us = month.starts_us(UTC), month.ends_us(UTC)
        self.month = month
        self.first_day = month.first_day
        self.begins_us, self.ends_us = begins_us - _ROOM_US, ends_us + _ROOM_US
        self.inside_from_us, self.inside_to_us = begins_us + _INSIDE_US, ends_us - _INSIDE_US
        self.of_events = False  # and not of the making of a salt alone
        self.templates: dict[bytes, RowTemplate] = {}
        self.upgrades_texts: dict[bytes, tuple[str, str]] = {}

    def check(self, at_us: int) -> None:
        """Raises a DeadLetter for an instant that is not near the month."""
        if not self.begins_us <= at_us <= self.ends_us:
            raise DeadLetter("instant", f"a record of {self.month} from another time")

    def add_template(self, role_and_site: bytes, record: bytes) -> RowTemplate:
        """The template for a record, whose last bytes are its role and site.

        Raises:
            DeadLetter: they are none.
        """
        start = decode(record)
        if not isinstance(start, SessionStarted):
            raise TypeError("only a session has a row")
        template = RowTemplate(self.month, start.site, start.role)
        self.templates[role_and_site] = template
        return template

    def add_upgrades_texts(self, role_and_site: bytes, record: bytes) -> tuple[str, str]:
        """The role and site of an upgrade, which are its record's last bytes.

        Raises:
            DeadLetter: they are none.
        """
        upgrade = decode(record)
        if not isinstance(upgrade, SessionUpgraded):
            raise TypeError("only an upgrade has those")
        texts = self.upgrades_texts[role_and_site] = upgrade.role, upgrade.site
        return texts
