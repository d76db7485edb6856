"""When a line was written, as far as it says so: for logs of which only what is recent counts.

Whatever is in doubt counts as late: a time without a zone is taken for the latest that it may be anywhere, and a line
without a time belongs to no day that is past.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from s6tls.audit.logs.stream import LogError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_LOOKED_AT = 4096  # of a line
_BEHIND = timedelta(hours=12)  # the clocks of the westernmost zone, and so how late a time without a zone may be
_MONTHS = {name: number for number, name in enumerate(b"Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec".split(), 1)}
_TAI64 = (1 << 62) + 10

_CLOCK = rb"(\d\d):(\d\d):(\d\d)"
_ZONE = rb"(Z|[+-]\d\d:?\d\d)?"
_MONTH = rb"(%s)" % b"|".join(_MONTHS)
_PATTERNS = (
    rb"@(?P<tai>[0-9a-f]{16})[0-9a-f]{8}\b",
    rb"(?P<iso>\b(\d{4})-(\d\d)-(\d\d)[T \t]" + _CLOCK + rb"(?:[.,]\d{1,9})? ?" + _ZONE + rb")",
    rb"(?P<web>\b(\d\d)/" + _MONTH + rb"/(\d{4}):" + _CLOCK + rb"(?:\.\d{1,9})? ?" + _ZONE + rb")",
    rb"(?P<syslog>\b" + _MONTH + rb" ([ \d]\d) (?:(\d{4}) )?" + _CLOCK + rb")",
    rb"(?P<unix>^ *(\d{9,10})\.\d{1,9}\b)",
    rb'(?P<field>"(?:__REALTIME_TIMESTAMP|[\w@.]*(?:time|timestamp|date|msec|ts))" *: *"?(\d{9,10}|\d{13}|\d{16})\b)',
)
_TIME = re.compile(b"|".join(_PATTERNS), re.IGNORECASE)


class Since:
    """Leaves out the lines that were written before a moment; `left_out` counts them, `dated` those with a time."""

    def __init__(self, moment: datetime, now: datetime | None = None) -> None:
        """`moment` and `now` have zones.  Syslog's dates have no year: they are the last such dates before now."""
        self.left_out = 0
        self.dated = 0
        self._moment = moment
        self._now = now or datetime.now(UTC)

    def filtered(self, chunks: Iterable[bytes]) -> Iterator[bytes]:
        """Yield chunks of lines, without those before the moment.

        Raises LogError at the end if there were lines, and none had a time.
        """
        undated = False
        for chunk in chunks:
            kept = []
            for line in chunk.split(b"\n"):
                written = self._written(line)
                if written is None:
                    undated = undated or bool(line.strip())
                else:
                    self.dated += 1
                if written is None or written >= self._moment:
                    kept.append(line)
                else:
                    self.left_out += 1
            if kept:
                yield b"\n".join(kept)
        if undated and not self.dated:
            raise LogError("no time in its lines")

    def _written(self, line: bytes) -> datetime | None:
        """Return when a line was written at the latest; None if it does not say."""
        found = _TIME.search(line[:_LOOKED_AT])
        if found is None:
            return None
        try:
            return self._time(found)
        except (ValueError, OverflowError):
            return None

    def _time(self, found: re.Match[bytes]) -> datetime:
        kind = found.lastgroup or ""
        parts = [part for part in found.groups() if part is not None]
        if kind == "tai":
            return datetime.fromtimestamp(int(parts[0], 16) - _TAI64, UTC)
        if kind in ("unix", "field"):
            return datetime.fromtimestamp(int(parts[1][:10]), UTC)
        if kind == "iso":
            _, year, month, day, *clock = parts
            return _zoned(_date(year, month, day, clock[:3]), clock[3:])
        if kind == "web":
            _, day, month, year, *clock = parts
            return _zoned(_date(year, month, day, clock[:3]), clock[3:])
        _, month, day, *clock = parts
        if len(clock) == 4:
            return _zoned(_date(clock[0], month, day, clock[1:]), [])
        return self._without_year(month, day, clock)

    def _without_year(self, month: bytes, day: bytes, clock: list[bytes]) -> datetime:
        year = self._now.year + 1
        while True:
            try:
                written = _zoned(_date(b"%d" % year, month, day, clock), [])
                if written - 2 * _BEHIND <= self._now:
                    return written
            except ValueError:  # the 29th of February
                if year < self._now.year - 8:
                    raise
            year -= 1


def _date(year: bytes, month: bytes, day: bytes, clock: list[bytes]) -> datetime:
    number = _MONTHS[month.capitalize()] if month.isalpha() else int(month)
    hour, minute, second = map(int, clock)
    return datetime(int(year), number, int(day), hour, minute, second, tzinfo=UTC)


def _zoned(local: datetime, zone: list[bytes]) -> datetime:
    """Return a moment from what clocks of a zone showed, the latest it may be if it is not known which."""
    if not zone:
        return local + _BEHIND
    if zone[0] in b"Zz":
        return local
    hours, minutes = int(zone[0][1:3]), int(zone[0][-2:])
    east = timedelta(hours=hours, minutes=minutes)
    return local - east if zone[0].startswith(b"+") else local + east
