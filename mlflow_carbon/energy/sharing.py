"""Who used it: every joule a meter handed out goes to the runs that were open, once, or to nobody.

Invariant, per meter: the mids given to runs that have no open parent, plus the
unattributed rest, add up to the energy handed out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from itertools import pairwise

from mlflow_carbon.energy.integrate import NOTHING, Interval, ordered
from mlflow_carbon.energy.ledger import ComponentEnergy, PowerPoint, RunEnergy
from mlflow_carbon.energy.meter import Component, MeterInfo, Method, Unmeasured
from mlflow_carbon.units import Range

_POINT_S = 10.0
_MOST_POINTS = 720
_METHODS = list(Method)


@dataclass(slots=True)
class _Sum:
    """What one meter counted for one run."""

    attributed_j: Range = NOTHING
    boundary_j: Range = NOTHING
    covered_ns: int = 0
    largest_gap_ns: int = 0
    readings: int = 0

    @property
    def says_something(self) -> bool:
        """A device that counted nothing at all was not measured: nothing uses no power."""
        return self.boundary_j.high > 0 and bool(self.covered_ns or self.boundary_j.mid)

    def take(self, own_j: Range, whole_j: Range, covered_ns: int) -> None:
        self.attributed_j += own_j
        self.boundary_j += whole_j
        self.covered_ns += covered_ns


@dataclass(slots=True)
class _Account:
    run_id: str
    parent_id: str | None
    opened_ns: int
    sums: dict[str, _Sum] = field(default_factory=dict)
    points: list[PowerPoint] = field(default_factory=list)
    _point_j: float = 0.0

    def attributed_j(self) -> float:
        return sum(part.attributed_j.mid for part in self.sums.values())

    def begin_point(self) -> None:
        """The next point of the power series is counted from what stands on the account now."""
        self._point_j = self.attributed_j()

    def note_power(self, now_ns: int, *, last: bool = False) -> None:
        """Add a point to the power series if it is due; thin the series out when it grows long."""
        at_s = (now_ns - self.opened_ns) / 1e9
        since_s = at_s - (self.points[-1].at_s if self.points else 0.0)
        if not self.sums or since_s <= 0 or (since_s < _POINT_S and not last):
            return
        total_j = self.attributed_j()
        self.points.append(PowerPoint(at_s=at_s, power_w=(total_j - self._point_j) / since_s))
        self.begin_point()
        if len(self.points) > _MOST_POINTS:
            self.points = _thinned(self.points)


def _thinned(points: list[PowerPoint]) -> list[PowerPoint]:
    """Half as many points, each the mean of two; the last one is kept as it is if odd."""
    merged, start_s = [], 0.0
    for first, second in zip(points[::2], points[1::2], strict=False):
        seconds = second.at_s - start_s
        energy_j = first.power_w * (first.at_s - start_s)
        energy_j += second.power_w * (second.at_s - first.at_s)
        merged.append(PowerPoint(at_s=second.at_s, power_w=energy_j / seconds))
        start_s = second.at_s
    return merged + ([points[-1]] if len(points) % 2 else [])


class Ledger:
    """The open runs of this process and what each has used so far.

    Runs that are open at the same moment share equally; a parent holds what its open children get
    (its figure is inclusive) and takes no share of its own while it has any.
    """

    def __init__(self) -> None:
        """No runs yet."""
        self._open: dict[str, _Account] = {}
        self._infos: dict[str, MeterInfo] = {}
        self.unattributed_j: dict[str, float] = {}
        """Per meter id."""

    def __contains__(self, run_id: str) -> bool:
        """Whether the run is open."""
        return run_id in self._open

    def __len__(self) -> int:
        """How many runs are open."""
        return len(self._open)

    @property
    def youngest_ns(self) -> int:
        """When the last of the open runs began; 0 without any."""
        return max((account.opened_ns for account in self._open.values()), default=0)

    def opened_ns(self, run_id: str) -> int:
        """When the run began.

        Raises:
            KeyError: the run is not open.
        """
        return self._open[run_id].opened_ns

    def open(self, run_id: str, at_ns: int, parent_id: str | None = None) -> None:
        """Begin an account."""
        self._open[run_id] = _Account(run_id, None if parent_id == run_id else parent_id, at_ns)

    def adopt(self, run_id: str, parent_id: str) -> None:
        """An open run turns out to be nested in another open one, which shared with it as a stranger so far.

        What the child got until now is added to the parent's figure, as if it had been known from the start.
        """
        child, parent = self._open.get(run_id), self._open.get(parent_id)
        if child is None or parent is None or child.parent_id:
            return
        ancestors = list(self._line(parent, dict.fromkeys(self._open, 0.0)))
        if child in ancestors:
            return
        child.parent_id = parent_id
        for ancestor in ancestors:
            for meter_id, part in child.sums.items():
                ancestor.sums.setdefault(meter_id, _Sum()).attributed_j += part.attributed_j

    def close(self, run_id: str) -> None:
        """Forget the account; what it got stays with it."""
        del self._open[run_id]

    def forget(self, meter_id: str) -> None:
        """Take back what a meter counted: another one has it in it."""
        self.unattributed_j.pop(meter_id, None)
        for account in self._open.values():
            if account.sums.pop(meter_id, None) is not None:
                account.points.clear()  # which have it in them
                account.begin_point()

    def hand_out(self, info: MeterInfo, interval: Interval) -> None:
        """Give an interval to those who were open in it."""
        self._infos[info.id] = info
        openings = {a.opened_ns for a in self._open.values()}
        cuts = sorted(ns for ns in openings if interval.from_ns < ns < interval.to_ns)
        edges = [interval.from_ns, *cuts, interval.to_ns]
        length_ns = interval.to_ns - interval.from_ns
        for start_ns, end_ns in pairwise(edges):
            part = (end_ns - start_ns) / length_ns if length_ns else 1.0
            active = [a for a in self._open.values() if a.opened_ns <= start_ns]
            blur_j = interval.blur_j + interval.energy_j.mid * min(part, 1 - part)
            self._share(info, interval, active, (part, end_ns - start_ns, blur_j))

    def _share(
        self,
        info: MeterInfo,
        interval: Interval,
        active: list[_Account],
        piece: tuple[float, int, float],
    ) -> None:
        part, span_ns, blur_j = piece
        energy, own = interval.energy_j, interval.own_j
        if part < 1:
            energy, own = energy.scaled(part), own.scaled(part)
        gets = self._parts_of(active)
        rest_j = energy.mid - (own.mid if any(gets.values()) else 0.0)
        self.unattributed_j[info.id] = self.unattributed_j.get(info.id, 0.0) + rest_j
        for account in active:
            gotten = gets[account.run_id]
            share = own if gotten == 1.0 else own.scaled(gotten)
            total = account.sums.setdefault(info.id, _Sum())
            began_here = part < 1 and gotten < 1
            edge = blur_j if began_here or not total.covered_ns else 0.0
            total.take(_blurred(share, edge), _blurred(energy, edge), span_ns * interval.measured)
            total.readings += 1
            total.largest_gap_ns = max(total.largest_gap_ns, interval.to_ns - interval.from_ns)

    def part_of(self, run_id: str) -> float:
        """How much of this process tree's energy the run gets now, 0 to 1.

        Raises:
            KeyError: the run is not open.
        """
        return self._parts_of(list(self._open.values()))[run_id]

    def _parts_of(self, active: list[_Account]) -> dict[str, float]:
        if len(active) == 1:
            return {active[0].run_id: 1.0}
        parents = {a.parent_id for a in active}
        leaves = [a for a in active if a.run_id not in parents]
        gets = dict.fromkeys((a.run_id for a in active), 0.0)
        for leaf in leaves:
            for account in self._line(leaf, gets):
                gets[account.run_id] += 1.0 / len(leaves)
        return gets

    def _line(self, leaf: _Account, active: dict[str, float]) -> Iterable[_Account]:
        """The run and its open ancestors, each once even if the parents form a circle."""
        seen: dict[str, _Account] = {}
        account: _Account | None = leaf
        while account is not None and account.run_id in active and account.run_id not in seen:
            seen[account.run_id] = account
            account = self._open.get(account.parent_id or "")
        return seen.values()

    def note_power(self, now_ns: int) -> None:
        """Add points to the power series that are due."""
        for account in self._open.values():
            account.note_power(now_ns)

    def account(
        self,
        run_id: str,
        now_ns: int,
        unmeasured: Iterable[Unmeasured],
        troubles: dict[str, tuple[MeterInfo, str]],
        *,
        last: bool = False,
    ) -> RunEnergy:
        """The account so far. ``troubles``: meters that gave no figure, and why.

        Raises:
            KeyError: the run is not open.
        """
        account = self._open[run_id]
        account.note_power(now_ns, last=last)
        duration_ns = max(1, now_ns - account.opened_ns)
        parts: dict[Component, list[tuple[MeterInfo, _Sum]]] = {}
        missing = list(unmeasured)
        for meter_id, total in account.sums.items():
            info = self._infos[meter_id]
            if total.says_something:
                parts.setdefault(info.component, []).append((info, total))
        for meter_id, (info, reason) in troubles.items():
            found = account.sums.get(meter_id)
            if found is None or not found.says_something:
                missing.append(Unmeasured(info.component, f"{info.describe}: {reason}"))
        silent = Counter(part.component for part in missing)
        components = [
            _component(found, duration_ns, silent[component]) for component, found in parts.items()
        ]
        components = _beside_the_wall(components)
        return RunEnergy(
            duration_s=duration_ns / 1e9,
            components=tuple(sorted(components, key=lambda part: part.component.value)),
            unmeasured=tuple(missing),
            power=tuple(account.points),
        )


def _blurred(energy: Range, blur_j: float) -> Range:
    if not blur_j:
        return energy
    return ordered(max(0.0, energy.low - blur_j), energy.mid, energy.high + blur_j)


def _component(
    found: list[tuple[MeterInfo, _Sum]], duration_ns: int, silent: int
) -> ComponentEnergy:
    """One component from its meters; ``silent`` more of them gave nothing and lower the coverage."""
    attributed = boundary = NOTHING
    for info, total in found:
        attributed += _with_sensor_error(total.attributed_j, info.sensor_error)
        boundary += _with_sensor_error(total.boundary_j, info.sensor_error)
    infos = [info for info, _ in found]
    covered_ns = sum(total.covered_ns for _, total in found)
    return ComponentEnergy(
        component=infos[0].component,
        method=max((info.method for info in infos), key=_METHODS.index),
        attributed_j=attributed,
        boundary_j=boundary,
        coverage=min(1.0, covered_ns / (len(found) + silent) / duration_ns),
        largest_gap_s=max(total.largest_gap_ns for _, total in found) / 1e9,
        readings=sum(total.readings for _, total in found),
        meters=tuple(info.describe for info in infos),
        sensor_note="; ".join(dict.fromkeys(info.sensor_note for info in infos)),
    )


def _beside_the_wall(components: list[ComponentEnergy]) -> list[ComponentEnergy]:
    """A sensor at the wall has the parts in it: what stands beside them is the rest of the machine.

    So the parts and the rest add up to the wall. The rest (fans, disks, losses of the power supply) is
    the run's in the measure in which the parts are.
    """
    wall = next((part for part in components if part.component is Component.SYSTEM), None)
    parts = [part for part in components if part is not wall]
    if wall is None or not parts:
        return components
    known, ours = NOTHING, 0.0
    for part in parts:
        known, ours = known + part.boundary_j, ours + part.attributed_j.mid
    share = min(1.0, ours / known.mid) if known.mid else 1.0
    rest = ordered(
        max(0.0, wall.boundary_j.low - known.high),
        max(0.0, wall.boundary_j.mid - known.mid),
        # While the wall was not read the parts went on: that much of them is not in its figure.
        max(0.0, wall.boundary_j.high - known.low * wall.coverage),
    )
    note = f"{wall.sensor_note}; less the parts that stand beside it"
    return [
        *parts,
        replace(wall, boundary_j=rest, attributed_j=rest.scaled(share), sensor_note=note),
    ]


def _with_sensor_error(energy: Range, error: float) -> Range:
    return ordered(energy.low * (1 - error), energy.mid, energy.high * (1 + error))
