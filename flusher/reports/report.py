"""Makes a report from the rows of the views. Pure.

If `data_quality` says that two months can't be compared, the report has the reason instead of a
percentage. All sites together are compared only by the sites that are comparable in both months.
"""

from collections.abc import Collection, Mapping
from datetime import datetime
from typing import Final

from contract.calendar import Month
from flusher.reports.report_lines import (
    BySite,
    Change,
    Counts,
    Line,
    Quality,
    Report,
    SignIns,
    ratio,
)
from flusher.stream.dead_letters import UNKNOWN_SITE

_YEAR: Final = 12
_NAMED_AT_MOST: Final = 3
_GIVEN_UP: Final = "sign-ins are missing: the sessions that they were for never came"
_WAITING: Final = "sign-ins still wait for their session: these numbers may still change"
_DEAD: Final = (
    "dead letters wait: sessions and sign-ins that are not counted until they are replayed "
    "(`python -m flusher dead list`)"
)


class Figures:
    """The rows of the views, of one site or of all."""

    def __init__(
        self,
        counts: Mapping[Month, BySite],
        quality: Mapping[Month, Mapping[str, Quality]],
        current: Month,
    ) -> None:
        """Counts by month and site (at least one), quality likewise, and the current month."""
        self._counts = counts
        self._quality = quality
        self._current = current
        self._first = min(counts)
        known = {site for rows in quality.values() for site in rows} - {UNKNOWN_SITE}
        # If there is only one site, the remarks on all sites can say more.
        self._only_site = known.pop() if len(known) == 1 else None

    def months(self, number: int) -> list[Month]:
        """The last `number` months, but none before the first counted one."""
        first = max(self._first, self._current.plus(1 - number))
        return [Month.from_ordinal(n) for n in range(first.ordinal, self._current.ordinal + 1)]

    def sites(self, *months: Month) -> set[str]:
        """The sites that were counted in any of these months."""
        return {site for month in months for site in self._counts.get(month, ())}

    def line(self, month: Month, site: str | None) -> Line:
        here = self._counts.get(month, {})
        everywhere = sum(here.values(), Counts())
        counts = everywhere if site is None else here.get(site, Counts())
        before = self._change(month, month.plus(-1), site)
        return Line(
            month,
            site,
            counts,
            month == self._current,
            None if site is None else ratio(counts.sessions, everywhere.sessions),
            before,
            self._change(month, month.plus(-_YEAR), site),
            (
                *self._remarks(month, site or self._only_site),
                *self._not_compared(month, site or self._only_site, before),
            ),
            self._sign_ins(month, site),
        )

    def unreadable_dead_letters(self) -> int:
        rows = [row for by_site in self._quality.values() for row in by_site.items()]
        return sum(quality.dead_letters for site, quality in rows if site == UNKNOWN_SITE)

    def _sign_ins(self, month: Month, site: str | None) -> SignIns | None:
        """Over several sites, only those count that have enough pairs."""
        pairs, users, visitors = 0, 0.0, 0.0
        for row in self._quality_of(month, site).values():
            if row.visitors_per_user and row.users_per_visitor:
                pairs += row.sign_in_pairs
                users += row.sign_in_pairs / row.visitors_per_user
                visitors += row.sign_in_pairs / row.users_per_visitor
        return SignIns(pairs, pairs / users, pairs / visitors) if pairs else None

    def _change(self, month: Month, other: Month, site: str | None) -> Change | None:
        both = [
            each
            for each in (self.sites(month, other) if site is None else {site})
            if self._may_be_compared(month, each) and self._may_be_compared(other, each)
        ]
        if month == self._current or not both:
            return None
        now = sum((self._counts[month][each] for each in both), Counts())
        then = sum((self._counts[other][each] for each in both), Counts())
        return Change(now.sessions / then.sessions - 1, now.people / then.people - 1, len(both))

    def _may_be_compared(self, month: Month, site: str) -> bool:
        quality = self._quality.get(month, {}).get(site)
        return quality is not None and quality.comparable and site in self._counts.get(month, {})

    def _not_compared(self, month: Month, site: str | None, change: Change | None) -> list[str]:
        """Why there is no change, or how many sites it covers."""
        before = month.plus(-1)
        if month in (self._current, self._first) or (change and site):
            return []
        if change:
            sites = len(self.sites(month, before))
            whole = "those that were counted throughout both months"
            text = f"the change is that of {change.sites} of {sites} sites: {whole}"
            return [text] if change.sites < sites else []
        of_before = self._blockers(before, site)
        if of_before:
            return [f"not compared, because of the month before: {'; '.join(of_before)}"]
        if self._blockers(month, site):
            return ["therefore not compared"]
        return ["not compared: nothing was counted throughout this month and the month before"]

    def _remarks(self, month: Month, site: str | None) -> list[str]:
        """What is known to be wrong with a month's numbers."""
        here = self._quality_of(month, site).values()
        missing = (
            (sum(quality.sign_ins_given_up for quality in here), _GIVEN_UP),
            (sum(quality.sign_ins_waiting for quality in here), _WAITING),
            (sum(quality.dead_letters for quality in here), _DEAD),
        )
        found = [f"{number} {what}" for number, what in missing if number]
        return [*self._blockers(month, site), *found]

    def _blockers(self, month: Month, site: str | None) -> list[str]:
        """Why a month can't be compared; of all sites if `site` is None."""
        here = self._quality_of(month, site)
        said = []
        if month != self._current and not self.sites(month) & ({site} if site else {*here}):
            said.append("no sessions were counted")
        elif site is None:
            said += _of_several(here, unfinished=month == self._current)
        elif site in here:
            said += _of_one(here[site], unfinished=month == self._current)
        salts = [each for each in here.values() if each.salts_replaced]
        if salts:
            often = salts[0].salts_replaced
            when = f"{often} times, last on" if often > 1 else "on"
            said.append(
                f"its salt was lost or replaced {when} {salts[0].salt_replaced_on}: people who "
                "came before and after count twice"
            )
        return said

    def _quality_of(self, month: Month, site: str | None) -> dict[str, Quality]:
        wanted = self._quality.get(month, {}).items()
        return {name: row for name, row in wanted if name != UNKNOWN_SITE and site in (None, name)}


def make_report(
    figures: Figures, site: str | None, months: int, zone: str, made_at: datetime
) -> Report:
    """The report of one site or all, for the last `months` months."""
    shown = figures.months(months)
    sites = figures.sites(*shown)
    remarks = []
    if len(sites) > 1:
        remarks.append(
            f"People are the sum over {len(sites)} sites: somebody who used two of them is counted "
            "on each."
        )
    unreadable = figures.unreadable_dead_letters()
    if unreadable:
        remarks.append(
            f"{unreadable} dead letters wait that can't be read. They may belong to any site and "
            "month (`python -m flusher dead list`)."
        )
    by_site = [
        line
        for month in shown
        for line in sorted(
            (figures.line(month, each) for each in figures.sites(month)),
            key=lambda line: (-line.counts.people, line.site or ""),
        )
    ]
    lines = [figures.line(month, None) for month in shown]
    if len(sites) == 1:
        site = next(iter(sites))
    return Report(site, len(sites), zone, made_at, lines, by_site, remarks)


def _of_one(quality: Quality, *, unfinished: bool) -> list[str]:
    said = []
    if quality.began_on:
        said.append(f"counting began on {quality.began_on}")
    if quality.ended_on:
        said.append(f"counting ended on {quality.ended_on}")
    if quality.days_without_sessions and not (quality.comparable or unfinished):
        days = quality.days_without_sessions
        said.append("a day has no session" if days == 1 else f"{days} days have no session")
    return said


def _of_several(here: Mapping[str, Quality], *, unfinished: bool) -> list[str]:
    began = [site for site, each in here.items() if each.began_on]
    ended = [site for site, each in here.items() if each.ended_on]
    gaps = [
        site
        for site, each in here.items()
        if each.days_without_sessions and not (each.comparable or unfinished)
    ]
    return [
        what.format(_named(sites))
        for sites, what in (
            (began, "counting of {} began within the month"),
            (ended, "counting of {} ended within the month"),
            (gaps, "there are days without any session of {}"),
        )
        if sites
    ]


def _named(sites: Collection[str]) -> str:
    return ", ".join(sorted(sites)) if len(sites) <= _NAMED_AT_MOST else f"{len(sites)} sites"
