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
from datetime import datetime

from mlflow_carbon.evidence.facts import PARENT_TAG
from mlflow_carbon.evidence.model import Evidence
from mlflow_carbon.schema import MIXED_BASES, Metric, Tag
from mlflow_carbon.units import G_PER_KG, J_PER_KWH, Range

CLOCK_SLACK_MS = 5_000
"""Hosts' clocks differ; MLflow's start and end are taken by the client."""
ROUNDING = 1e-9
"""Of a parent's figure: sums of many floating-point numbers are not exact, and depend on their order."""


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


def one_basis(bases: Iterable[str]) -> bool:
    """Whether emissions on these bases may be added up; those of a run that is mixed in itself never."""
    found = set(bases)
    return len(found) == 1 and not next(iter(found)).startswith(MIXED_BASES)


def parent_of(run: Evidence) -> str:
    """The id of the run this one is nested in, or the empty text."""
    return text(run, f"tag.{PARENT_TAG}")


@dataclass(frozen=True, slots=True)
class Node:
    """What counting needs to know of a run."""

    parent: str
    start_ms: int | None
    end_ms: int | None
    """Since 1970."""
    energy_j: Range | None
    inclusive: bool


def node_of(run: Evidence) -> Node:
    """A run as a node of a tree."""
    return Node(
        parent_of(run),
        _milliseconds(moment_of(run, "run.start_time")),
        _milliseconds(moment_of(run, "run.end_time")),
        energy_j(run),
        text(run, f"tag.{Tag.TREE}") == "inclusive",
    )


def _milliseconds(moment: datetime | None) -> int | None:
    return None if moment is None else round(moment.timestamp() * 1000)


def count_once(runs: Mapping[str, Node]) -> Counted:
    """Put each run in one group. Parents outside the set, and circular ones, do not count as parents."""
    children: dict[str, list[str]] = {}
    for run_id, run in runs.items():
        children.setdefault(run.parent, []).append(run_id)
    roots = [run_id for run_id, run in runs.items() if run.parent not in runs]
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
            if runs[run_id].energy_j is None:
                unmeasured.add(run_id)
                todo.extend(below)
                continue
            counted.append(run_id)
            contained = _contained(runs[run_id], below, runs)
            covered = _descendants(contained, children, seen)
            todo.extend(one for one in below if one not in covered)
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


def _contained(parent: Node, below: list[str], runs: Mapping[str, Node]) -> list[str]:
    if not parent.inclusive or parent.energy_j is None:
        return []
    during = [run_id for run_id in below if _ran_while(runs[run_id], parent)]
    used = (runs[run_id].energy_j for run_id in during)
    room_j = parent.energy_j.high * (1 + ROUNDING)
    return during if sum(one.low for one in used if one) <= room_j else []


def _ran_while(child: Node, parent: Node) -> bool:
    starts, ends = (parent.start_ms, child.start_ms), (child.end_ms, parent.end_ms)
    return _in_order(*starts) and _in_order(*ends)


def _in_order(first_ms: int | None, second_ms: int | None) -> bool:
    return first_ms is not None and second_ms is not None and first_ms - CLOCK_SLACK_MS <= second_ms
