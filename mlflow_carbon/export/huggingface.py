"""A Hugging Face model card: YAML front matter and a page. ``co2_eq_emissions.emissions`` is in grams."""

from __future__ import annotations

import html
import json
import re
from datetime import datetime
from typing import Any

from mlflow_carbon.datasets.license import NOT_KNOWN, normalized
from mlflow_carbon.export.record import EVALUATION, TRAINING, Dataset, ModelRecord, Phase
from mlflow_carbon.export.shown import plain, rounded
from mlflow_carbon.schema import Tag
from mlflow_carbon.units import show_duration, show_emissions, show_energy

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]{0,95}(/[A-Za-z0-9][\w.-]{0,95})?")


def render(record: ModelRecord, made_at: datetime) -> str:
    """The card. Everything from the store is text in it: no markup, no YAML of its own."""
    import yaml

    front = yaml.safe_dump(_front(record), sort_keys=False, allow_unicode=True, width=1000)
    return f"---\n{front}---\n\n{_page(record, made_at)}"


def _front(record: ModelRecord) -> dict[str, Any]:
    front: dict[str, Any] = {"model_name": plain(record.name)}
    expression = normalized(record.license) if record.license else NOT_KNOWN
    if " " in expression or expression.startswith("LicenseRef-"):
        front |= {"license": "other", "license_name": plain(record.license)}
    elif expression != NOT_KNOWN:
        front["license"] = expression.lower()
    if datasets := [hub for one in record.datasets if (hub := _hub_id(one))]:
        front["datasets"] = sorted(set(datasets))
    names = sorted(name for name in record.metrics if not name.startswith("carbon/"))
    if names:
        front["metrics"] = [plain(name) for name in names]
    if emissions := _emissions(record):
        front["co2_eq_emissions"] = emissions
    return front


def _emissions(record: ModelRecord) -> dict[str, Any]:
    phase = record.phases.get(TRAINING)
    if phase is None or phase.emissions_g is None:
        return {}
    source = f"mlflow-carbon {record.tag(Tag.VERSION)}, {record.tag(Tag.METHOD)}"
    details = {
        "source": f"{source}; {phase.note}" if phase.note else source,
        "geographical_location": record.tag(Tag.REGION),
        "hardware_used": record.tag(Tag.HARDWARE),
    }
    return {
        "emissions": rounded(phase.emissions_g.mid),
        **{name: plain(text) for name, text in details.items() if text},
    }


def _hub_id(dataset: Dataset) -> str:
    """The data set's name on the hub, when MLflow recorded that it came from there."""
    if dataset.source_type != "hugging_face":
        return ""
    try:
        path = json.loads(dataset.source).get("path", "")
    except (ValueError, AttributeError):
        return ""
    return path if isinstance(path, str) and _HUB_ID.fullmatch(path) else ""


def _page(record: ModelRecord, made_at: datetime) -> str:
    lines = [f"# {_cell(record.name)}, version {_cell(record.version)}", ""]
    if record.description:
        lines += [_cell(record.description), ""]
    if record.purpose:
        lines += ["## Intended use", "", _cell(record.purpose), ""]
    lines += _energy_section(record)
    if record.datasets:
        lines += [
            "## Data",
            "",
            "| Data set | Role | Rows | License | SHA-256 |",
            "|---|---|---|---|---|",
        ]
        lines += [_dataset_row(one) for one in record.datasets] + [""]
    owner = f", owner {_cell(record.owner)}" if record.owner else ""
    lines.append(f"Written by mlflow-carbon from the MLflow record on {made_at:%Y-%m-%d}{owner}.")
    return "\n".join(lines) + "\n"


def _energy_section(record: ModelRecord) -> list[str]:
    lines = ["## Energy and emissions", ""]
    if not record.phases:
        return [*lines, "Nothing is on record.", ""]
    lines += ["| Phase | Runs | Time | Energy (low to high) | Emissions (low to high) |"]
    lines += ["|---|---|---|---|---|"]
    lines += [_phase_row(phase) for phase in record.phases.values()]
    details = {
        "Method": record.tag(Tag.METHOD),
        "Grade": record.tag(Tag.GRADE),
        "Emission factor": _factor(record),
        "Hardware": record.tag(Tag.HARDWARE),
    }
    listed = [f"- {name}: {_cell(text)}" for name, text in details.items() if text]
    notes = [
        f"- {phase.name}: {_cell(note)}"
        for phase in record.phases.values()
        for note in (phase.note, phase.no_emissions)
        if note
    ]
    return [*lines, "", *listed, *notes, ""]


def _phase_row(phase: Phase) -> str:
    time = "not known" if phase.duration_s is None else show_duration(phase.duration_s)
    energy, emissions = "not measured", "not known"
    if (found := phase.energy_j) is not None:
        energy = f"{show_energy(found.mid)} ({show_energy(found.low)} to {show_energy(found.high)})"
    if (grams := phase.emissions_g) is not None:
        low, high = show_emissions(grams.low), show_emissions(grams.high)
        emissions = f"{show_emissions(grams.mid)} ({low} to {high})"
    label = {TRAINING: "Training and tuning", EVALUATION: "Evaluation"}[phase.name]
    return (
        f"| {label} | {phase.runs} ({phase.failed_runs} failed) | {time} | {energy} | {emissions} |"
    )


def _factor(record: ModelRecord) -> str:
    parts = [record.tag(Tag.FACTOR), record.tag(Tag.FACTOR_BASIS), record.tag(Tag.FACTOR_SOURCE)]
    if not parts[0]:
        return ""
    return f"{parts[0]} gCO2e/kWh ({'; '.join(part for part in parts[1:] if part)})"


def _dataset_row(dataset: Dataset) -> str:
    rows = "not known" if dataset.rows is None else str(dataset.rows)
    cells = (dataset.name, dataset.context or "not said", rows, dataset.license or "not said")
    return "| " + " | ".join(map(_cell, cells)) + f" | {_cell(dataset.sha256[:16]) or 'none'} |"


def _cell(text: str) -> str:
    """Text that stays text: HTML escaped, the signs Markdown would act on made harmless."""
    shown = re.sub(r"([\\`*_\[\]|~])", r"\\\1", html.escape(plain(text), quote=False))
    return re.sub(r"^(\d*)([#+>-]|[.)](?=\s|$))", r"\1\\\2", shown)
