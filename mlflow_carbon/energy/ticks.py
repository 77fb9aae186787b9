"""When a counter took the value it shows.

A counter that is renewed every tenth of a second shows a value that is up to that old. Polled
densely, the moment of a change is known; between such moments it is told from the beat.
"""

from __future__ import annotations

from typing import NamedTuple


class Moment(NamedTuple):
    """A moment of the monotonic clock, known to lie between two others."""

    at_ns: int
    from_ns: int
    to_ns: int

    @property
    def blur_ns(self) -> int:
        """How far the true moment may be away."""
        return max(self.to_ns - self.at_ns, self.at_ns - self.from_ns)


class Beat:
    """The beat of one counter, learnt from changes seen between two polls close to each other.

    Only the middle of a ``Moment`` relies on the beat being regular; its bounds hold without.
    """

    def __init__(self, tick_ns: int, lag_ns: int = 0) -> None:
        """A counter renewed every ``tick_ns`` (0: at every reading), or readings up to ``lag_ns`` old."""
        self.tick_ns, self._lag_ns = tick_ns, lag_ns
        self._known: tuple[int, int] | None = None
        self._changed_ns = -tick_ns
        """When it was last seen to have changed."""

    def of_first(self, read_ns: int) -> Moment:
        """When the very first value seen was taken."""
        oldest = self.tick_ns + self._lag_ns
        return Moment(read_ns - self.tick_ns // 2, read_ns - oldest, read_ns)

    def of_change(self, read_ns: int, polled_ns: int) -> Moment:
        """When a value was taken that is new since the poll before."""
        since_ns, self._changed_ns = read_ns - self._changed_ns, read_ns
        if since_ns <= self.tick_ns // 2:  # it is renewed more often than was thought
            self.tick_ns, self._known = since_ns, None
        if not self.tick_ns:
            return Moment(read_ns, read_ns - self._lag_ns, read_ns)
        earliest = max(polled_ns, read_ns - self.tick_ns)
        if read_ns - earliest <= self.tick_ns // 2:
            earliest, latest = self._learn(earliest, read_ns)
            return Moment((earliest + latest) // 2, earliest, latest)
        if self._known is None:
            return Moment((earliest + read_ns) // 2, earliest, read_ns)
        middle = sum(self._known) // 2
        expected = middle + (read_ns - middle) // self.tick_ns * self.tick_ns
        return Moment(max(expected, earliest), earliest, read_ns)

    def _learn(self, earliest: int, latest: int) -> tuple[int, int]:
        """Narrow the change down by what the beat says, or begin anew where they contradict."""
        if self._known is not None:
            beats = round((earliest - self._known[0]) / self.tick_ns)
            from_ns = max(earliest, self._known[0] + beats * self.tick_ns)
            to_ns = min(latest, self._known[1] + beats * self.tick_ns)
            if from_ns <= to_ns:
                earliest, latest = from_ns, to_ns
        self._known = (earliest, latest)
        return earliest, latest
