"""The energy and carbon account: totals, how they are known, and the runs behind them."""

from __future__ import annotations

import re
from collections import Counter

from mlflow_carbon.audit.summary import RunEnergyRow
from mlflow_carbon.evidence.model import SubjectKind
from mlflow_carbon.report import charts
from mlflow_carbon.report.blocks import (
    Block,
    Code,
    Column,
    Facts,
    Figure,
    Heading,
    Line,
    Paragraph,
    Strong,
    Table,
    Whole,
    line,
)
from mlflow_carbon.report.context import Context
from mlflow_carbon.report.shown import name
from mlflow_carbon.units import energy_unit, show_duration

DRAWN = 10
LISTED = 20
SCATTERED = 40
_BASIS = re.compile(
    r"(?:(mixed): )?(lifecycle|direct), ((?:annual|hourly) (?:average|marginal)), (location-based)"
    r"(?: \(([^()]*)\))?"
)
"""As ``carbon.intensity`` puts a basis on record; in brackets what else a reader must know."""


def energy(c: Context) -> tuple[Block, ...]:
    """The account; without a single figure, one sentence that says so."""
    t, account = c.t, c.audit.energy
    if account.total_j is None:
        return (Paragraph(line(t("energy.none")), "lead"), Facts(_boundary(c)))
    by_energy = sorted(
        (row for row in account.rows if row.energy_j is not None),
        key=lambda row: (-(row.energy_j.mid if row.energy_j else 0.0), row.run_id),
    )
    unknown = [row for row in account.rows if row.energy_j is None]
    return (
        _totals(c),
        _by_run(c, by_energy[:DRAWN]),
        *_power(c),
        *_carbon(c, [row for row in by_energy if row.emissions_g is not None][:DRAWN]),
        *_quality(c, by_energy),
        Paragraph(line(t("energy.grades")), "note"),
        _table(c, (by_energy + unknown)[:LISTED]),
    )


def _mixed(c: Context) -> list[str]:
    """Why emissions that are on record were not added up."""
    account = c.audit.energy
    if account.emissions_g is None and any(row.emissions_g for row in account.rows):
        return [". ", c.t("energy.mixed")]
    return []


def _totals(c: Context) -> Facts:
    t, account = c.t, c.audit.energy
    known = account.measured_j + account.modelled_j
    rows = [
        (t("energy.total"), line(Strong(c.energy_range(account.total_j)))),
        (t("energy.measured"), line(_share(c, account.measured_j, known))),
        (t("energy.modelled"), line(_share(c, account.modelled_j, known))),
        (t("energy.emissions"), line(Strong(c.emissions_range(account.emissions_g)), *_mixed(c))),
        (t("energy.counted"), line(t("energy.counted_value", counted=account.runs_counted, inside=account.runs_inside_counted))),
        (t("energy.unmeasured"), line(t("energy.unmeasured_value", account.runs_unmeasured, all=c.among(SubjectKind.RUN, c.audit.selection.runs_read)))),
        (t("energy.failed"), line(t("energy.failed_value", value=c.energy(account.failed_runs_j)))),
        (t("energy.measuring"), line(_measuring(c))),
        (t("energy.factors"), line(c.listed(_factor(c, told) for told in account.factors))),
        *_boundary(c),
    ]  # fmt: skip
    return Facts(tuple(rows))


def _factor(c: Context, recorded: str) -> str:
    """A factor with our own words in the report's language; its source and a note of the user's stay as recorded."""

    def word(english: str) -> str:
        return str(c.t.entries.get(f"factor.{english}", english))

    def basis(found: re.Match[str]) -> str:
        mixed, *words, note = found.groups()
        told = ", ".join(map(word, words))
        if mixed:
            told = f"{word(mixed)}: {told}"
        return f"{told} ({word(note)})" if note else told

    value, unit, origin = recorded.partition(" g/kWh")
    return c.local(value) + unit + _BASIS.sub(basis, origin)


def _measuring(c: Context) -> str:
    """What the records say measuring itself took."""
    account = c.audit.energy
    if (cost := account.measuring) is None:
        return c.t("energy.measuring_none")
    share = (
        c.local(f"{cost.cpu_s / cost.wall_s * 100:.2g} %") if cost.wall_s > 0 else c.t("unknown")
    )
    return c.t(
        "energy.measuring_value", cpu=c.local(show_duration(cost.cpu_s)), share=share,
        runs=cost.runs, counted=c.among(SubjectKind.RUN, account.runs_counted),
    )  # fmt: skip


def _share(c: Context, part_j: float, all_j: float) -> str:
    share = c.percent(part_j / all_j) if all_j else c.t("unknown")
    return c.t("energy.share", value=c.energy(part_j), share=share)


def _boundary(c: Context) -> tuple[tuple[str, Line], ...]:
    return tuple(
        (c.t(f"energy.{key}"), line(c.t(f"energy.{key}_value")))
        for key in ("boundary", "accounting")
    )


def _by_run(c: Context, rows: list[RunEnergyRow]) -> Figure:
    t = c.t
    parents = {row.parent_id for row in c.audit.energy.rows if row.parent_id}
    drawn, told = [], []
    for row in rows:
        total = row.energy_j.mid if row.energy_j else 0.0
        parts = (("gpu", row.gpu_j), ("cpu", row.cpu_j), ("dram", row.dram_j))
        segments = [(key, value) for key, value in parts if value]
        rest = total - sum(value for _, value in segments)
        segments.append(("rest", rest if rest > total * 0.005 else 0.0))
        label = ("+ " if row.run_id in parents else "") + (row.name or row.run_id)
        drawn.append(charts.Bar(label, tuple(segments), c.energy(total)))
        told.append(t("energy.by_run_item", name=name(label), value=c.energy(total)))
    present = {key for bar in drawn for key, value in bar.segments if value}
    legend: dict[str, str] = {
        key: t(f"energy.{key}") for key in ("gpu", "cpu", "dram", "rest") if key in present
    }
    return Figure(
        "energy", t("energy.by_run"), charts.bars(drawn, legend),
        t("energy.by_run_alt", items="; ".join(told)), t("energy.by_run_caption", len(rows)),
    )  # fmt: skip


def _power(c: Context) -> tuple[Figure, ...]:
    """Power over time, one panel for each run that it is on record for."""
    t, drawn, told = c.t, [], []
    most = max((step.high_w for curve in c.audit.power for step in curve.steps), default=0.0)
    for curve in c.audit.power:
        mean = sum(step.mean_w for step in curve.steps) / len(curve.steps)
        high = max(step.high_w for step in curve.steps)
        length = c.local(show_duration(curve.steps[-1].at_s))
        points = tuple((s.at_s, s.low_w, s.mean_w, s.high_w) for s in curve.steps)
        label, watts = curve.name or curve.run_id, f"{_watts(c, mean)}"
        drawn.append(charts.Course(label, points, _watts(c, most), length, watts))
        told.append(
            t(
                "energy.power_item",
                name=name(label),
                mean=watts,
                high=_watts(c, high),
                length=length,
            )
        )
    if not drawn:
        return ()
    alt = t("energy.power_alt", items="; ".join(told))
    return (
        Figure("power", t("energy.power"), charts.courses(drawn), alt, t("energy.power_caption")),
    )


def _watts(c: Context, power_w: float) -> str:
    return c.local(f"{power_w:.3g} W" if power_w < 1000 else f"{power_w / 1000:.3g} kW")


def _carbon(c: Context, rows: list[RunEnergyRow]) -> tuple[Figure, ...]:
    t = c.t
    drawn, told = [], []
    for row in rows:
        if (grams := row.emissions_g) is None:
            continue
        label = row.name or row.run_id
        drawn.append(charts.Span(label, grams.low, grams.mid, grams.high, c.emissions(grams.mid)))
        told.append(
            t("energy.carbon_item", name=name(label), mid=c.emissions(grams.mid),
              low=c.emissions(grams.low), high=c.emissions(grams.high))
        )  # fmt: skip
    if not drawn:
        return ()
    alt = t("energy.carbon_alt", items="; ".join(told))
    return (
        Figure(
            "carbon",
            t("energy.carbon_by_run"),
            charts.spans(drawn),
            alt,
            t("energy.carbon_caption"),
        ),
    )


def _quality(c: Context, rows: list[RunEnergyRow]) -> tuple[Block, ...]:
    """The metric most runs share, against energy; a sentence where a chart would be all but empty."""
    shared = Counter(metric for row in rows for metric in sorted(row.quality))
    if not shared:
        return ()
    metric = min(shared, key=lambda key: (-shared[key], key))
    dots: list[charts.Dot] = []
    told: list[str] = []
    for row in rows:
        if metric not in row.quality or row.energy_j is None or len(dots) == SCATTERED:
            continue
        value, energy_j = row.quality[metric], row.energy_j.mid
        if charts.finite(value, energy_j):
            dots.append(charts.Dot(row.name or row.run_id, energy_j, value))
            told.append(
                c.t("energy.quality_item", name=name(row.name or row.run_id), metric=metric,
                    value=c.local(f"{value:.4g}"), energy=c.energy(row.energy_j.mid))
            )  # fmt: skip
    if not dots:
        return ()
    shown_metric = name(metric)
    if len({(dot.x, dot.y) for dot in dots}) < 3:
        few = c.t("energy.quality_few", len(dots), metric=shown_metric, items="; ".join(told))
        return (Heading(line(c.t("energy.quality"))), Paragraph(line(few)))
    alt = c.t("energy.quality_alt", len(dots), metric=shown_metric, items="; ".join(told))
    unit_j, unit = energy_unit(max(dot.x for dot in dots))
    dots = [charts.Dot(dot.label, dot.x / unit_j, dot.y) for dot in dots]
    svg = charts.scatter(dots, c.t("energy.axis_energy", unit=unit), shown_metric, c.local)
    return (
        Figure(
            "quality",
            c.t("energy.quality"),
            svg,
            alt,
            c.t("energy.quality_caption", metric=shown_metric),
        ),
    )


def _table(c: Context, rows: list[RunEnergyRow]) -> Table:
    t = c.t
    account = c.audit.energy
    return Table(
        t("energy.runs_caption"),
        (
            Column(t("energy.run"), 20), Column(t("energy.status"), 11),
            Column(t("energy.duration"), 10, number=True), Column(t("energy.energy"), 20, number=True),
            Column(t("energy.carbon"), 20, number=True), Column(t("energy.how"), 19),
        ),
        tuple(_row(c, row) for row in rows),
        omitted=c.more(len(account.rows) - len(rows), account.rows_left_out, "report.json"),
    )  # fmt: skip


def _bounds(low: str, high: str) -> Line:
    """The bounds of a figure; a unit they share is written once."""
    value, _, unit = low.partition(" ")
    start = value if high.endswith(f" {unit}") else low
    return (" ", Whole(f"({start} \u2013 {high})"))


def _pieces(told: str) -> Line:
    """What stands between commas is not parted at the end of a line."""
    *most, last = told.split(", ")
    return (*(piece for one in most for piece in (Whole(f"{one},"), " ")), Whole(last))


def _row(c: Context, row: RunEnergyRow) -> tuple[Line, ...]:
    t = c.t
    inside = (f" {t('energy.inside')} ", Code(name(row.parent_id[:8]))) if row.parent_id else ()
    coverage = t("unknown") if row.coverage is None else c.percent(row.coverage)
    how = t(
        "energy.how_value", method=t(f"method.{row.method}"), grade=row.grade, coverage=coverage
    )
    known = row.energy_j is not None
    bounds: Line = ()
    carbon_bounds: Line = ()
    if row.energy_j is not None:
        bounds = _bounds(c.energy(row.energy_j.low), c.energy(row.energy_j.high))
    if row.emissions_g is not None:
        low, high = c.emissions(row.emissions_g.low), c.emissions(row.emissions_g.high)
        carbon_bounds = _bounds(low.removesuffix(" CO2e"), high.removesuffix(" CO2e"))
    return (
        line(name(row.name), " ", Code(row.run_id[:8]), *inside),
        line(name(row.status)),
        line(t("unknown") if row.duration_s is None else c.local(show_duration(row.duration_s))),
        line(Strong(c.energy(row.energy_j.mid if row.energy_j else None)), *bounds),
        line(Strong(c.emissions(row.emissions_g.mid if row.emissions_g else None)), *carbon_bounds),
        _pieces(how if known else t("method.missing")),
    )
