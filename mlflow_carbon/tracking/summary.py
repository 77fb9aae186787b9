"""The page a person opens in the run's artifacts: one HTML file, everything inside, every word escaped."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from string import Template

from mlflow_carbon import resources
from mlflow_carbon.schema import Metric, Tag
from mlflow_carbon.tracking.facts import Json
from mlflow_carbon.tracking.provenance import license_of
from mlflow_carbon.units import (
    G_PER_KG,
    J_PER_KWH,
    show_duration,
    show_emissions,
    show_energy,
    show_range,
)

_WIDTH, _HEIGHT, _LEFT, _BOTTOM = 640.0, 180.0, 64.0, 24.0

_STATUS = {
    "measured": "",
    "partial": "Only part of this run's time was measured; the figures are for that part.",
    "not-measured": "This run was not measured.",
    "truncated": "The process died; the figures end with its last reading.",
    "measuring": "The run was still going on.",
}

_PARTS = {
    "gpu": "GPU",
    "cpu": "CPU",
    "dram": "Memory",
    "module": "GPU and CPU (module)",
    "system": "Machine (at the wall)",
}


def page(document: Json, sha256: str, path: str, datasets: Sequence[Json] = ()) -> str:
    """The summary of a sealed evidence document (see ``record.seal``) and its provenance record."""
    tags: Json = document["recorded"]["tags"]
    metrics: Json = document["recorded"]["metrics"]
    run_tags: Json = document["run"].get("tags", {})
    template = Template((resources.templates() / "run" / "summary.html").read_text("utf-8"))
    return template.substitute(
        name=escape(str(run_tags.get("mlflow.runName", document["run_id"]))),
        run_id=escape(str(document["run_id"])),
        status=_status(tags, document),
        figures=_figures(metrics, tags),
        power=_power(document["energy"]),
        components=_components(document["energy"], document["recorded"]["tags"]),
        carbon=_carbon(document["factor"], metrics, tags) if Metric.EMISSIONS_KG in metrics else "",
        datasets=_datasets(datasets),
        written_by=escape(str(document["written_by"])),
        document=escape(path),
        sha256=escape(sha256),
    )


def _status(tags: Mapping[str, str], document: Json) -> str:
    lines = [_STATUS.get(tags.get(Tag.STATUS, ""), "")]
    if tags.get(Tag.EXIT) == "exception":
        lines.append("The script ended by an unhandled exception, whatever status MLflow shows.")
    if tags.get(Tag.TREE) == "inclusive":
        lines.append(
            "Other runs were nested in this one; their energy is contained in its figures."
        )
    lines += [f"Note: {trouble}" for trouble in document["session"]["troubles"]]
    return "".join(f'<p class="warn">{escape(line)}</p>' for line in lines if line)


def _figures(metrics: Mapping[str, float], tags: Mapping[str, str]) -> str:
    shown: list[tuple[str, str, str]] = []
    if Metric.ENERGY_KWH in metrics:
        low, mid, high = (
            show_energy(metrics[name] * J_PER_KWH)
            for name in (Metric.ENERGY_KWH_LOW, Metric.ENERGY_KWH, Metric.ENERGY_KWH_HIGH)
        )
        shown.append(("Energy", mid, show_range(low, high)))
        boundary = show_energy(metrics[Metric.BOUNDARY_ENERGY_KWH] * J_PER_KWH)
        shown.append(("Reserved devices", boundary, "all they used while the run ran"))
    if Metric.EMISSIONS_KG in metrics:
        low, mid, high = (
            show_emissions(metrics[name] * G_PER_KG)
            for name in (Metric.EMISSIONS_KG_LOW, Metric.EMISSIONS_KG, Metric.EMISSIONS_KG_HIGH)
        )
        shown.append(("Carbon", mid, show_range(low, high)))
    coverage = f"{metrics[Metric.COVERAGE]:.0%} of it measured"
    shown.append(("Duration", show_duration(metrics[Metric.DURATION_S]), coverage))
    if Tag.GRADE in tags:
        shown.append(("Grade", tags[Tag.GRADE], f"mostly {tags.get(Tag.METHOD, '')}"))
    if (cost_s := metrics.get(Metric.MEASURING_CPU_S)) is not None:
        shown.append(("Measuring itself", f"{cost_s:.3g} s", "of processor time"))
    cells = (
        f"<div><dt>{escape(name)}</dt><dd>{escape(value)}<small>{escape(note)}</small></dd></div>"
        for name, value, note in shown
    )
    return f'<dl class="figures">{"".join(cells)}</dl>'


def _power(energy: Json | None) -> str:
    """Mean power over the session as a step line; nothing without at least one point."""
    points: Sequence[Sequence[float]] = energy["power_w"] if energy else []
    if not points or points[-1][0] <= 0:
        return ""
    end_s, top_w = points[-1][0], max(power for _, power in points) or 1.0

    def x(at_s: float) -> float:
        return _LEFT + at_s / end_s * (_WIDTH - _LEFT - 8)

    def y(power_w: float) -> float:
        return (_HEIGHT - _BOTTOM) - power_w / top_w * (_HEIGHT - _BOTTOM - 12)

    path, since_s = [], 0.0
    for at_s, power_w in points:
        path += [f"{x(since_s):.1f},{y(power_w):.1f}", f"{x(at_s):.1f},{y(power_w):.1f}"]
        since_s = at_s
    mean_w = sum(
        power * (at - before)
        for (at, power), before in zip(points, [0.0, *[p[0] for p in points]], strict=False)
    ) / end_s  # fmt: skip
    told = f"Power over time: {mean_w:.3g} W on average, at most {top_w:.3g} W."
    ground = y(0.0)
    return (
        f"<h2>Power over time</h2><p>{escape(told.partition(': ')[2])}</p>"
        f'<svg viewBox="0 0 {_WIDTH:.0f} {_HEIGHT:.0f}" role="img" aria-label="{escape(told)}">'
        f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - 8}" y1="{ground}" y2="{ground}"/>'
        f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - 8}" y1="{y(top_w)}" y2="{y(top_w)}"/>'
        f'<text x="{_LEFT - 6}" y="{y(top_w) + 4}" text-anchor="end">{top_w:.3g} W</text>'
        f'<text x="{_LEFT - 6}" y="{ground + 4}" text-anchor="end">0</text>'
        f'<text x="{_WIDTH - 8}" y="{_HEIGHT - 6}" text-anchor="end">{escape(show_duration(end_s))}</text>'
        f'<polyline class="line" points="{" ".join(path)}"/></svg>'
    )


def _part(part: Json) -> str:
    name = str(part["component"])
    return escape(_PARTS.get(name, name))


def _components(energy: Json | None, tags: Mapping[str, str]) -> str:
    rows = []
    parts: Sequence[Json] = energy["components"] if energy and Tag.GRADE in tags else []
    largest = max((part["attributed_j"]["mid"] for part in parts), default=0.0) or 1.0
    for part in parts:
        joules = part["attributed_j"]
        width = 120 * joules["mid"] / largest
        bar = f'<svg viewBox="0 0 120 10" aria-hidden="true"><rect class="bar" width="{width:.1f}" height="10"/></svg>'
        known = f"{part['method']}: {', '.join(map(str, part['meters']))}"
        spread = show_range(show_energy(joules["low"]), show_energy(joules["high"]))
        rows.append(
            f"<tr><th>{_part(part)}</th><td>{escape(show_energy(joules['mid']))}<br>"
            f'<span class="soft">{escape(spread)}</span></td><td>{bar}</td><td>{escape(known)}</td></tr>'
        )
    rows += [
        f"<tr><th>{_part(part)}</th>"
        f"<td colspan=3>not measured: {escape(str(part['reason']))}</td></tr>"
        for part in (energy["unmeasured"] if energy else [])
    ]
    if not rows:
        return ""
    head = "<tr><th>Part</th><th>Energy</th><th></th><th>How it is known</th></tr>"
    return f"<h2>Energy by component</h2><table>{head}{''.join(rows)}</table>"


def _carbon(factor: Json, metrics: Mapping[str, float], tags: Mapping[str, str]) -> str:
    spread: Json = factor["g_per_kwh"]
    lines = {
        "Factor": f"{spread['mid']:g} gCO2e/kWh ({spread['low']:g} to {spread['high']:g})",
        "Place": f"{factor['region_name']} ({factor['region']}), {factor['region_source']}: {factor['region_reason']}",
        "Meaning": f"{factor['basis']}, {factor['period']} {factor['kind']}, location-based, {factor['year']}",
        "Source": f"{factor['source']} ({factor['license']})",
    }
    if factor.get("not_live"):
        lines["Hourly factor"] = f"not used: {factor['not_live']}"
    if (market_kg := metrics.get(Metric.MARKET_EMISSIONS_KG)) is not None:
        lines["Market-based"] = (
            f"{show_emissions(market_kg * G_PER_KG)}, {tags[Tag.MARKET_FACTOR]} gCO2e/kWh, "
            f"declared: {tags[Tag.MARKET_SOURCE]}"
        )
    return f"<h2>Carbon factor</h2><table>{_rows(lines.items())}</table>"


def _rows(lines: Iterable[tuple[str, str]]) -> str:
    return "".join(f"<tr><th>{escape(k)}</th><td>{escape(v)}</td></tr>" for k, v in lines)


def _datasets(datasets: Sequence[Json]) -> str:
    if not datasets:
        return ""
    head = "<tr><th>Name</th><th>Used for</th><th>Rows</th><th>License</th><th>Content (SHA-256)</th></tr>"
    rows = "".join(
        f"<tr><td>{escape(str(item['name']))}</td><td>{escape(str(item.get('context') or 'not said'))}</td>"
        f"<td>{escape(str(item.get('rows', 'unknown')))}</td><td>{escape(license_of(item) or 'not declared')}</td>"
        f"<td>{_content(item)}</td></tr>"
        for item in datasets
    )
    return f"<h2>Datasets</h2><table>{head}{rows}</table>"


def _content(item: Json) -> str:
    if "sha256" not in item:
        return escape(f"not fingerprinted: {item.get('unfingerprinted', 'no reason given')}")
    return f"<code>{escape(str(item['sha256'])[:16])}…</code> {escape(str(item.get('hash_scope', '')))}"
