"""What a run used: each component's joules with how they are known, and the run's total."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from mlflow_carbon.energy.meter import Component, Method, Unmeasured
from mlflow_carbon.units import Range


@dataclass(frozen=True, slots=True, kw_only=True)
class ComponentEnergy:
    """The energy of one component during one run."""

    component: Component
    method: Method
    attributed_j: Range
    """This run's share."""
    boundary_j: Range
    """Everything on the reserved devices while the run ran (SCI)."""
    coverage: float
    """Measured share of the run's wall time, 0 to 1."""
    largest_gap_s: float
    readings: int
    meters: tuple[str, ...]
    """What was read, for a person."""
    sensor_note: str = ""


class PowerPoint(NamedTuple):
    """Mean power of the run over a stretch that ends ``at_s`` seconds after its start."""

    at_s: float
    power_w: float


class Progress(NamedTuple):
    """What a run used since an account of it, all of it measured."""

    after_s: float
    """The duration of that account, by which it is known."""
    duration_s: float
    covered_s: float
    """Since the last reading that is in the account."""
    added_j: Mapping[Component, Sequence[float]]
    """Low, mid and high of the attributed joules, then of the boundary's, sensor errors included."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunEnergy:
    """The energy account of one run so far. ``components`` is empty if nothing could be measured."""

    duration_s: float
    components: tuple[ComponentEnergy, ...]
    unmeasured: tuple[Unmeasured, ...]
    power: tuple[PowerPoint, ...]
    measuring_cpu_s: float | None = None
    """Processor time that measuring has cost this process while the run was open."""

    @property
    def attributed_j(self) -> Range | None:
        """Sum over the components; ``None`` when there is none, never 0."""
        return _total([c.attributed_j for c in self.components])

    @property
    def boundary_j(self) -> Range | None:
        """Sum of the boundary figures; ``None`` when there is none."""
        return _total([c.boundary_j for c in self.components])

    @property
    def coverage(self) -> float:
        """Energy-weighted over the components; 0 when nothing was measured."""
        return self._weighted()

    def _weighted(self) -> float:
        total = sum(c.attributed_j.mid for c in self.components)
        if not total:
            return min((c.coverage for c in self.components), default=0.0)
        return sum(c.coverage * c.attributed_j.mid for c in self.components) / total

    @property
    def largest_gap_s(self) -> float:
        """The longest stretch without a reading on any component."""
        return max((c.largest_gap_s for c in self.components), default=self.duration_s)

    @property
    def method(self) -> Method:
        """The method behind most of the energy."""
        if not self.components:
            return Method.MISSING
        joules: dict[Method, float] = {}
        for part in self.components:
            joules[part.method] = joules.get(part.method, 0.0) + part.attributed_j.mid
        return max(joules, key=lambda method: joules[method])

    @property
    def grade(self) -> str:
        """A: counters for at least 95 % of the energy and of the time; B: counters or samples for at
        least 80 %; C: at least half; D: modelled, or nothing, or a component is missing altogether.
        """
        total = self.attributed_j
        if total is None or not total.mid or self._lacks_a_component():
            return "D"
        counted = sum(c.attributed_j.mid for c in self.components if c.method is Method.COUNTER)
        sensed = counted + sum(
            c.attributed_j.mid for c in self.components if c.method is Method.SAMPLED
        )
        if counted >= 0.95 * total.mid and self.coverage >= 0.95:
            return "A"
        if sensed >= 0.8 * total.mid and self.coverage >= 0.8:
            return "B"
        return "C" if sensed >= 0.5 * total.mid and self.coverage >= 0.5 else "D"

    def _lacks_a_component(self) -> bool:
        """Whether one is neither measured itself nor inside another's figure: its share is not known."""
        measured = {part.component for part in self.components}
        if Component.SYSTEM in measured:
            return False
        if Component.MODULE in measured:
            measured |= {Component.CPU, Component.DRAM}
        return any(part.component not in measured | {Component.SYSTEM} for part in self.unmeasured)


def _total(parts: list[Range]) -> Range | None:
    if not parts:
        return None
    total = parts[0]
    for part in parts[1:]:
        total = total + part
    return total
