"""Sessions whose counts are known without counting them.

Session `k` of a site is by person `k % people` of that site; every fifth person is signed in. So
the counts follow from how many sessions a site has.
"""

import uuid
from dataclasses import dataclass
from hashlib import md5

from contract.calendar import Month
from contract.record import SessionStarted

SIGNED_IN_EVERY = 5


@dataclass(frozen=True, slots=True)
class Known:
    """`sites` sites with so many sessions each, as the database was filled."""

    sites: int
    sessions: int

    def people(self, site: int) -> int:
        return max(self.sessions // 3, 1) + site % 7

    def row(self, month: Month, site: int, more: int = 0) -> tuple[object, ...]:
        """The row of `monthly_impact` once `more` sessions have followed."""
        sessions, people = self.sessions + more, self.people(site)
        rounds, rest = divmod(sessions, people)
        signed_in_people = -(-people // SIGNED_IN_EVERY)
        signed_in = rounds * signed_in_people + -(-rest // SIGNED_IN_EVERY)
        seen = min(people, sessions)
        seen_signed_in = -(-seen // SIGNED_IN_EVERY)
        return (
            month.first_day,
            site_name(site),
            sessions,
            seen,
            signed_in,
            seen_signed_in,
            sessions - signed_in,
            seen - seen_signed_in,
        )

    def next_session(self, month: Month, number: int, at_us: int) -> SessionStarted:
        """Session `number` of those that follow: one site after the other."""
        site, turn = number % self.sites, self.sessions + number // self.sites
        person = turn % self.people(site)
        seed = f"{month.first_day} {site} {person}".encode()
        role = "user" if person % SIGNED_IN_EVERY == 0 else None
        hash_ = md5(seed, usedforsecurity=False).digest()
        return SessionStarted(uuid.uuid4().bytes, month, at_us, site_name(site), hash_, role)


def site_name(site: int) -> str:
    return f"site{site}.example.org"
