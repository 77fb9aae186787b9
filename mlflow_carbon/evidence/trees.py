"""Runs inside runs: whose energy to add up so that nothing is counted twice.

A parent's figure contains what its children used on the same host at the same time
(``Tag.TREE`` = ``inclusive``). Nothing on a run says which host it ran on, so a parent is
taken to contain its children only where that can be: they ran while it ran, and together
used no more than it did. Otherwise each counts on its own, which errs on the high side.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from mlflow_carbon.evidence.facts import PARENT_TAG
from mlflow_carbon.evidence.model import Evidence
from mlflow_carbon.schema import Metric, Tag
from mlflow_carbon.units import G_PER_KG, J_PER_KWH, Range

_CLOCK_SLACK = timedelta(seconds=5)
"""Hosts' clocks differ; MLflow's start and end are taken by the client."""


@dataclass(frozen=True, slots=True)
class Counted:
    """The run ids of a set of runs, each in exactly one of three groups."""

    counted: tuple[str, ...]
    """Their figures add up to the total."""
    inside: frozenset[str]
    """Their energy is inside the figure of a counted run."""
    unmeasured: frozenset[str]
    """No figure, and inside no counted one: their energy is unknown."""


def number(evidence: Evidence, fact: str) -> float | None:
    """A finite number, else ``None``."""
    found = evidence.facts.get(fact)
    if found is None or isinstance(found.value, bool) or not isinstance(found.value, int | float):
        return None
    return float(found.value) if math.isfinite(found.value) else None


def text(evidence: Evidence, fact: str) -> str:
    """A text, else the empty one."""
    found = evidence.facts.get(fact)
    return found.value if found is not None and isinstance(found.value, str) else ""


def moment_of(evidence: Evidence, fact: str) -> datetime | None:
    """A moment, else ``None``."""
    found = evidence.facts.get(fact)
    return found.value if found is not None and isinstance(found.value, datetime) else None


def _range(evidence: Evidence, names: tuple[str, str, str], factor: float) -> Range | None:
    mid = number(evidence, f"metric.{names[1]}")
    if mid is None or mid < 0:
        return None
    low, high = number(evidence, f"metric.{names[0]}"), number(evidence, f"metric.{names[2]}")
    return Range(
        max(min(mid if low is None else low, mid), 0.0),
        mid,
        max(mid if high is None else high, mid),
    ).scaled(factor)


def energy_j(run: Evidence) -> Range | None:
    """The energy on record for a run; ``None`` where there is none."""
    names = (Metric.ENERGY_KWH_LOW, Metric.ENERGY_KWH, Metric.ENERGY_KWH_HIGH)
    return _range(run, names, J_PER_KWH)


def emissions_g(run: Evidence) -> Range | None:
    """The emissions on record for a run; ``None`` where there are none."""
    names = (Metric.EMISSIONS_KG_LOW, Metric.EMISSIONS_KG, Metric.EMISSIONS_KG_HIGH)
    return _range(run, names, G_PER_KG)


def parent_of(run: Evidence) -> str:
    """The id of the run this one is nested in, or the empty text."""
    return text(run, f"tag.{PARENT_TAG}")


def count_once(runs: Mapping[str, Evidence]) -> Counted:
    """Put each run in one group. Parents outside the set, and circular ones, do not count as parents."""
    children: dict[str, list[str]] = {}
    for run_id, run in runs.items():
        children.setdefault(parent_of(run), []).append(run_id)
    roots = [run_id for run_id, run in runs.items() if parent_of(run) not in runs]
    seen: set[str] = set()
    counted: list[str] = []
    inside: set[str] = set()
    unmeasured: set[str] = set()
    # What is left after the trees hangs on a circle of parents; tags are free text.
    for start in (*roots, *runs):
        todo = [start]
        while todo:
            run_id = todo.pop()
            if run_id in seen:
                continue
            seen.add(run_id)
            below = [one for one in children.get(run_id, ()) if one not in seen]
            if energy_j(runs[run_id]) is None:
                unmeasured.add(run_id)
                todo.extend(below)
                continue
            counted.append(run_id)
            contained = _contained(runs[run_id], below, runs)
            todo.extend(one for one in below if one not in contained)
            covered = _descendants(contained, children, seen)
            inside |= covered
            seen |= covered
    return Counted(tuple(counted), frozenset(inside), frozenset(unmeasured))


def _descendants(
    heads: Iterable[str], children: Mapping[str, list[str]], seen: set[str]
) -> set[str]:
    found: set[str] = set()
    todo = list(heads)
    while todo:
        run_id = todo.pop()
        if run_id not in found and run_id not in seen:
            found.add(run_id)
            todo.extend(children.get(run_id, ()))
    return found


def _contained(parent: Evidence, below: list[str], runs: Mapping[str, Evidence]) -> list[str]:
    if text(parent, f"tag.{Tag.TREE}") != "inclusive":
        return []
    during = [run_id for run_id in below if _ran_while(runs[run_id], parent)]
    total, limit = energy_j(parent), 0.0
    for run_id in during:
        if (used := energy_j(runs[run_id])) is not None:
            limit += used.low
    return during if total is not None and limit <= total.high else []


def _ran_while(child: Evidence, parent: Evidence) -> bool:
    starts = moment_of(parent, "run.start_time"), moment_of(child, "run.start_time")
    ends = moment_of(child, "run.end_time"), moment_of(parent, "run.end_time")
    if None in starts or None in ends:
        return False
    return starts[0] - _CLOCK_SLACK <= starts[1] and ends[0] <= ends[1] + _CLOCK_SLACK  # type: ignore[operator]
