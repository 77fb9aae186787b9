"""From readings to joules between two moments: interpolation, bridging, and how far off that may be."""

from __future__ import annotations

from typing import NamedTuple

from mlflow_carbon.energy.meter import Gap, MeterInfo, Method, Reading
from mlflow_carbon.energy.ticks import Beat, Moment
from mlflow_carbon.units import Range

NOTHING = Range(0.0, 0.0, 0.0)
_LEAD_NS = 250_000_000
"""A meter's first reading may come this long after its run began and still count from the beginning."""
_SLOPE_S = 0.05
_YOUNG_S = 10.0
"""For this long the highest and lowest power seen are no bounds yet."""


class Interval(NamedTuple):
    """Joules used between two moments of the monotonic clock."""

    from_ns: int
    to_ns: int
    energy_j: Range
    own_j: Range
    """The part used by this process tree."""
    blur_j: float = 0.0
    """How far the energy at either end may be off because the tick's moment is not known exactly."""
    measured: bool = True
    """Covered by readings; otherwise bridged, and wide."""


def ordered(low: float, mid: float, high: float) -> Range:
    """A range from bounds that rounding may have put out of order."""
    return Range(min(low, mid), mid, max(mid, high))


def grown(now: Range, before: Range) -> Range:
    """What was added since before, bound by bound."""
    return ordered(
        max(0.0, now.low - before.low),
        max(0.0, now.mid - before.mid),
        max(0.0, now.high - before.high),
    )


def _at_least(now: Range, before: Range) -> Range:
    mid = max(now.mid, before.mid)
    return ordered(max(now.low, before.low), mid, max(now.high, before.high))


class _Tick(NamedTuple):
    moment: Moment
    energy_j: Range
    own_j: Range

    @property
    def at_ns(self) -> int:
        return self.moment.at_ns


class Track:
    """One meter's joules laid along time and handed out once, stretch after stretch.

    Invariant: the mids of all intervals handed out add up to the energy at the position,
    whatever was bridged in between; what a bridge gave too much is taken off the next one.
    """

    def __init__(self, info: MeterInfo, opened_ns: int) -> None:
        """Start at ``opened_ns``; the first reading sets the zero."""
        self.info = info
        self._at_ns, self._polled_ns = opened_ns, opened_ns
        self._beat = _beat(info)
        self._handed: _Tick | None = None
        self._tick: _Tick | None = None
        self._slope_from: _Tick | None = None
        self._first: _Tick | None = None
        self._power_w: float | None = None
        self._least_w: float | None = None
        self._peak_w = 0.0
        self._broken: str | None = None
        self.unknown_until_ns = 0
        """Nothing is known of the time before this, as the first reading came late."""
        self.trouble: str | None = None
        """Why the meter cannot be read at the moment."""

    @property
    def at_ns(self) -> int:
        """Everything up to here has been handed out."""
        return self._at_ns

    def follow(self, info: MeterInfo) -> None:
        """The meter may have changed to another method since."""
        if info.tick_s != self.info.tick_s:
            self._beat = _beat(info)
        self.info = info

    def add(self, reading: Reading) -> Interval | None:
        """Take a reading; the joules since the position, if the counter has moved on."""
        self.trouble = None
        if reading.power_w is not None:
            self._see(reading.power_w)
        if self._tick is None or self._handed is None:
            return self._begin(reading)
        if self.info.tick_s and reading.energy_j == self._tick.energy_j and not self._broken:
            self._polled_ns = reading.at_ns
            return None
        tick = _tick(reading, self._beat.of_change(reading.at_ns, self._polled_ns))
        self._polled_ns = reading.at_ns
        self._place_the_first(tick)
        before, self._tick = self._tick, tick
        self._see_slope(tick, keep=reading.power_w is None)
        return self._hand_out(before, tick) if tick.at_ns > self._at_ns else None

    def gap(self, gap: Gap) -> None:
        """Take note that the meter could not be read; a counter makes up for it later, others cannot."""
        self.trouble = gap.reason
        if gap.lost or self.info.method is not Method.COUNTER:
            self._broken = gap.reason

    def bridge(self, to_ns: int, pace_s: float = 1.0) -> Interval | None:
        """The joules up to ``to_ns`` although the next tick is not there yet; ``None`` before any reading.

        Meters are read every ``pace_s``. Within a few times that of the last reading the last power is carried on; after that
        nothing is assumed: the stretch is not covered and only the upper bound grows.
        """
        if self._handed is None or self._tick is None or to_ns <= self._at_ns:
            return None
        span_s = (to_ns - self._at_ns) / 1e9
        age_s = self.silent_s(to_ns)
        fresh = self.trouble is None and age_s <= 3 * self._late_s(pace_s)
        power_w = self._latest_w() if fresh else None
        if power_w is None:
            energy = Range(0.0, 0.0, self._ceiling_w() * span_s)
        else:
            seen = self._tick.moment
            shortest_s = max(0, to_ns - max(seen.to_ns, self._at_ns)) / 1e9
            longest_s = max(span_s, (to_ns - seen.from_ns) / 1e9)
            least_w, most_w = self._bounds_w(to_ns)
            energy = ordered(least_w * shortest_s, power_w * span_s, most_w * longest_s)
        own = self._ours(energy)
        close_enough = power_w is not None and age_s <= self.info.tick_s + 0.1
        interval = Interval(self._at_ns, to_ns, energy, own, measured=close_enough)
        at = Moment(to_ns, to_ns, to_ns)
        self._moved(_Tick(at, self._handed.energy_j + energy, self._handed.own_j + own))
        return interval

    def why_silent(self, now_ns: int, pace_s: float = 1.0) -> str:
        """The reason, where a run got no figure from this meter."""
        if self.trouble:
            return self.trouble
        silent_s = self.silent_s(now_ns)
        late = silent_s > 2 * self._late_s(pace_s) or self._tick is None
        return f"silent for {silent_s:.2f} s" if late else "counted nothing during the run"

    def _late_s(self, pace_s: float) -> float:
        return max(min(pace_s, self.info.period_s), self.info.tick_s)

    def silent_s(self, now_ns: int) -> float:
        """Seconds since the meter last gave a value, or since the start."""
        return (now_ns - self._polled_ns) / 1e9

    def _bounds_w(self, at_ns: int) -> tuple[float, float]:
        """The least and the most power that is possible, as far as is known at a moment."""
        young = (at_ns - self._first_ns()) / 1e9 < _YOUNG_S
        if young or self._least_w is None:
            return 0.0, self._ceiling_w()
        return self._least_w, self._peak_w

    def _blur_j(self, tick: _Tick, power_w: float) -> float:
        """How far the energy at a tick may be off. A power that lags says nothing of the power meanwhile."""
        if self.info.lag_s:
            least_w, most_w = self._bounds_w(tick.at_ns)
            power_w = most_w - least_w
        return power_w * tick.moment.blur_ns / 1e9

    def _first_ns(self) -> int:
        return self._at_ns if self._first is None else self._first.at_ns

    def _ceiling_w(self) -> float:
        return max(self.info.max_power_w or 0.0, self._peak_w)

    def _latest_w(self) -> float | None:
        """The last power seen; in a track's first moments the mean since it began."""
        if self._power_w is not None or self._tick is None or self._first is None:
            return self._power_w
        span_s = (self._tick.at_ns - self._first.at_ns) / 1e9
        used_j = self._tick.energy_j.mid - self._first.energy_j.mid
        return used_j / span_s if span_s > 0 else None

    def _ours(self, energy: Range) -> Range:
        """Our part of bridged energy: as it was over the whole track, bound by bound."""
        if self._tick is None or not self._tick.energy_j.mid:
            return energy
        whole, own = self._tick.energy_j, self._tick.own_j
        return ordered(
            energy.low * min(1.0, own.low / whole.mid),
            energy.mid * min(1.0, own.mid / whole.mid),
            energy.high * min(1.0, own.high / whole.mid),
        )

    def _begin(self, reading: Reading) -> Interval | None:
        """The zero; where it comes late, what was used until then is anything the device can draw."""
        tick = _tick(reading, self._beat.of_first(reading.at_ns))
        self._polled_ns, self._broken = reading.at_ns, None
        self._tick = self._handed = self._slope_from = self._first = tick
        late_ns = reading.at_ns - self._at_ns
        if late_ns <= _LEAD_NS:
            if tick.at_ns < self._at_ns:
                self._at_ns = tick.at_ns
            return None
        began_ns, self._at_ns = self._at_ns, reading.at_ns
        if self.info.max_power_w is None:
            self.unknown_until_ns = reading.at_ns
            return None
        energy = Range(0.0, 0.0, self.info.max_power_w * late_ns / 1e9)
        return Interval(began_ns, reading.at_ns, energy, energy, measured=False)

    def _place_the_first(self, tick: _Tick) -> None:
        """The value before the first change that was seen happen is one beat older than the change."""
        first = self._first
        if first is None or self._handed is not first or self._tick is not first:
            return
        if tick.moment.to_ns - tick.moment.from_ns > self._beat.tick_ns // 2:
            return  # not seen happen
        bounds = first.moment
        at_ns = min(max(tick.at_ns - self._beat.tick_ns, bounds.from_ns), bounds.to_ns)
        if self._at_ns == first.at_ns:
            self._at_ns = at_ns
        self._first = self._handed = first._replace(moment=bounds._replace(at_ns=at_ns))

    def _see(self, power_w: float, keep: bool = True) -> None:
        if keep:
            self._power_w = power_w
        self._peak_w = max(self._peak_w, power_w)
        self._least_w = power_w if self._least_w is None else min(self._least_w, power_w)

    def _see_slope(self, tick: _Tick, keep: bool) -> None:
        """Mean power between ticks far enough apart for the counter's grain not to matter."""
        start = self._slope_from
        if self._broken or start is None:
            self._slope_from = tick
        elif (span_s := (tick.at_ns - start.at_ns) / 1e9) >= _SLOPE_S:
            self._see(max(0.0, tick.energy_j.mid - start.energy_j.mid) / span_s, keep)
            self._slope_from = tick

    def _hand_out(self, before: _Tick, tick: _Tick) -> Interval:
        assert self._handed is not None
        energy = grown(tick.energy_j, self._handed.energy_j)
        own = grown(tick.own_j, self._handed.own_j)
        span_s = (tick.at_ns - self._at_ns) / 1e9
        if self._handed is before and self._at_ns == before.at_ns and not self._broken:
            # The usual case, which the rest comes down to: nothing was bridged and nothing is missing.
            blur_j = self._blur_j(tick, energy.mid / span_s)
            interval = Interval(self._at_ns, tick.at_ns, energy, own, blur_j)
            self._moved(tick)
            return interval
        if self._broken:
            interval = self._over_the_break(tick, span_s)
        else:
            lead_s = (self._handed.at_ns - self._at_ns) / 1e9
            stretch = span_s / max(1e-9, span_s - lead_s) if lead_s > 0 else 1.0
            energy = _including(energy.scaled(stretch), self._fresh(before, tick, "energy_j"))
            own = _including(own.scaled(stretch), self._fresh(before, tick, "own_j"))
            blur_j = self._blur_j(tick, energy.mid / span_s)
            interval = Interval(self._at_ns, tick.at_ns, energy, own, blur_j)
        self._broken = None
        energy = _at_least(tick.energy_j, self._handed.energy_j)
        handed = _Tick(tick.moment, energy, _at_least(tick.own_j, self._handed.own_j))
        self._moved(tick if handed == tick else handed)  # back to the usual case
        return interval

    def _fresh(self, before: _Tick, tick: _Tick, field: str) -> float:
        """What the counter itself says for the stretch, whatever was bridged before it."""
        span_ns = tick.at_ns - before.at_ns
        if span_ns <= 0:
            return 0.0
        used: Range = grown(getattr(tick, field), getattr(before, field))
        return used.mid * (tick.at_ns - max(before.at_ns, self._at_ns)) / span_ns

    def _over_the_break(self, tick: _Tick, span_s: float) -> Interval:
        energy = ordered(0.0, (self._power_w or 0.0) * span_s, self._ceiling_w() * span_s)
        own = self._ours(energy)
        return Interval(self._at_ns, tick.at_ns, energy, own, measured=False)

    def _moved(self, handed: _Tick) -> None:
        self._handed, self._at_ns = handed, handed.at_ns


def _including(energy: Range, fresh_j: float) -> Range:
    """A bridge that gave too much or too little shifts the next mid; the range holds the truth."""
    return Range(min(energy.low, fresh_j), energy.mid, max(energy.high, fresh_j))


def _beat(info: MeterInfo) -> Beat:
    return Beat(int(info.tick_s * 1e9), int(info.lag_s * 1e9))


def _tick(reading: Reading, moment: Moment) -> _Tick:
    own = reading.energy_j if reading.own_j is None else reading.own_j
    return _Tick(moment, reading.energy_j, own)
