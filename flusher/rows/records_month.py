"""What the records of one month have in common, computed once per batch. Pure."""

from datetime import UTC
from typing import Final

from contract.calendar import DAY_US, Month
from contract.errors import DeadLetter
from contract.record import SessionStarted, SessionUpgraded, decode
from flusher.rows.copy_format import RowTemplate

# In any time zone, a month is within a day of UTC's month. Another day is for wrong clocks.
_ROOM_US: Final = 2 * DAY_US
# A session that is so far from both ends of its month (UTC) is never sent again in another month.
_INSIDE_US: Final = 3 * DAY_US


class RecordsMonth:
    """The limits that the records of a month are checked against, and templates for their rows."""

    __slots__ = (
        "begins_us",
        "ends_us",
        "first_day",
        "has_events",
        "inside_from_us",
        "inside_to_us",
        "month",
        "templates",
        "upgrade_texts",
    )

    def __init__(self, month: Month) -> None:
        begins_us, ends_us = month.starts_us(UTC), month.ends_us(UTC)
        self.month = month
        self.first_day = month.first_day
        self.begins_us, self.ends_us = begins_us - _ROOM_US, ends_us + _ROOM_US
        self.inside_from_us, self.inside_to_us = begins_us + _INSIDE_US, ends_us - _INSIDE_US
        self.has_events = False  # sessions or upgrades, and not only notices of salts
        self.templates: dict[bytes, RowTemplate] = {}
        self.upgrade_texts: dict[bytes, tuple[str, str]] = {}

    def check(self, at_us: int) -> None:
        """Raises a DeadLetter for a time that is not near the month."""
        if not self.begins_us <= at_us <= self.ends_us:
            raise DeadLetter("instant", f"a record of {self.month} from another time")

    def add_template(self, role_and_site: bytes, record: bytes) -> RowTemplate:
        """Makes the template for sessions that end in the same bytes as this record.

        Raises:
            DeadLetter: these bytes are no role and site.
        """
        start = decode(record)
        if not isinstance(start, SessionStarted):
            raise TypeError("only a session has a row")
        template = RowTemplate(self.month, start.site, start.role)
        self.templates[role_and_site] = template
        return template

    def add_upgrade_texts(self, role_and_site: bytes, record: bytes) -> tuple[str, str]:
        """The role and site of upgrades that end in the same bytes as this record.

        Raises:
            DeadLetter: these bytes are no role and site.
        """
        upgrade = decode(record)
        if not isinstance(upgrade, SessionUpgraded):
            raise TypeError("only an upgrade has these texts")
        texts = self.upgrade_texts[role_and_site] = upgrade.role, upgrade.site
        return texts
