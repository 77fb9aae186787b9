"""Runs in simulated time: the book is read on the sampler's schedule, the truth is known."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from mlflow_carbon.energy.book import Book
from mlflow_carbon.energy.ledger import RunEnergy
from mlflow_carbon.energy.meter import Gap, Meter


@dataclass(frozen=True)
class Window:
    """A run from ``start_s`` to ``end_s``."""

    start_s: float
    end_s: float
    parent: str | None = None


def simulate(
    meters: Sequence[Meter],
    windows: dict[str, Window],
    set_time: Callable[[float], None],
    *,
    period_s: float = 1.0,
    latency_s: float = 0.0003,
) -> dict[str, RunEnergy]:
    """The accounts of the runs. Each reading comes ``latency_s`` after it was asked for."""
    book = Book(meters, (), period_s)
    events = sorted(
        [(w.start_s, "open", name) for name, w in windows.items()]
        + [(w.end_s, "close", name) for name, w in windows.items()]
    )
    accounts: dict[str, RunEnergy] = {}
    due_s = float("inf")

    def read(at_s: float) -> float:
        set_time(at_s + latency_s)
        for meter in meters:
            reading = meter.read()
            book.take(meter, reading)
            if isinstance(reading, Gap) and reading.lost:
                book.take(meter, meter.read())
        return at_s + latency_s + book.delay_s(meters, round((at_s + latency_s) * 1e9))

    for at_s, what, name in events:
        while len(book) and due_s <= at_s:
            due_s = read(due_s)
        now_ns = round(at_s * 1e9)
        if what == "open":
            book.expect(now_ns)
            book.open(name, now_ns, windows[name].parent)
            due_s = read(at_s)
        else:
            due_s = read(at_s)
            accounts[name] = book.close(name, now_ns)
    return accounts
