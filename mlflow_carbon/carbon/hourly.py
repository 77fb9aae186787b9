"""Joules by hour of the day, so that factors that change by the hour can be applied, now or later."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta, timezone
from typing import NamedTuple

HOUR = timedelta(hours=1)


class Hour(NamedTuple):
    """One hour of UTC, named by its start, and the joules used in it."""

    start: datetime
    energy_j: float


def hour_of(moment: datetime) -> datetime:
    """The start of the hour of UTC a moment is in."""
    return moment.astimezone(timezone.utc).replace(minute=0, second=0, microsecond=0)


def energy_by_hour(
    opened_at: datetime, power: Sequence[tuple[float, float]], total_j: float
) -> tuple[Hour, ...]:
    """Share ``total_j`` over the hours a run lasted, by its power series.

    ``power``: the end of a stretch in seconds after ``opened_at``, and the mean power over it in watts.
    The hours add up to ``total_j``. A series without power counts by time.
    """
    stretches = _stretches(power)
    weights: dict[datetime, float] = {}
    level = any(watts > 0 for _, _, watts in stretches)
    for since_s, until_s, watts in stretches:
        _spread(weights, opened_at, (since_s, until_s), watts if level else 1.0)
    whole = sum(weights.values())
    if not whole:
        return (Hour(hour_of(opened_at), total_j),)
    return tuple(Hour(start, total_j * weights[start] / whole) for start in sorted(weights))


def _stretches(power: Sequence[tuple[float, float]]) -> list[tuple[float, float, float]]:
    ends = [0.0, *(at_s for at_s, _ in power)]
    return [
        (since_s, until_s, watts)
        for since_s, (until_s, watts) in zip(ends, power, strict=False)
        if until_s > since_s
    ]


def _spread(
    weights: dict[datetime, float], opened_at: datetime, span_s: tuple[float, float], watts: float
) -> None:
    at = opened_at + timedelta(seconds=span_s[0])
    end = opened_at + timedelta(seconds=span_s[1])
    while at < end:
        start = hour_of(at)
        until = min(end, start + HOUR)
        weights[start] = weights.get(start, 0.0) + watts * (until - at).total_seconds()
        at = until


def nearest(known: Mapping[datetime, float], start: datetime) -> float | None:
    """The value of an hour, else that of the hour before or after it; ``None`` where none is known."""
    for other in (start, start - HOUR, start + HOUR):
        if other in known:
            return known[other]
    return None
