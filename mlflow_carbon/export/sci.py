"""Software Carbon Intensity of a version's training and evaluation (JSON): grams of CO2e per declared unit, and its parts."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from mlflow_carbon.carbon import sci
from mlflow_carbon.export.record import EVALUATION, ModelRecord, Phase
from mlflow_carbon.export.shown import rounded, to_json
from mlflow_carbon.schema import Tag
from mlflow_carbon.units import J_PER_KWH, Range, kwh


@dataclass(frozen=True, slots=True, kw_only=True)
class Inputs:
    """What only the user knows; ``None`` is not known, and shown as missing."""

    units: float | None = None
    unit: str = ""
    pue: float | None = None
    hardware: sci.Hardware | None = None
    water_site_l_per_kwh: float | None = None
    water_grid_l_per_kwh: float | None = None
    price_per_kwh: float | None = None
    currency: str = ""


def render(record: ModelRecord, made_at: datetime, inputs: Inputs) -> str:
    """The document: a score, or ``null`` with what is missing for one."""
    phase = record.whole
    pue = inputs.pue or _tag_number(record, Tag.PUE)
    missing = _missing(phase, inputs)
    score, parts = None, {}
    if phase is not None and phase.boundary_j is not None:
        parts = _beside(phase.boundary_j, pue or 1.0, inputs)
        if (intensity := _intensity(phase)) is not None:
            score = _score(phase, phase.boundary_j, intensity, pue or 1.0, inputs, missing)
    document = {
        "standard": "ISO/IEC 21031:2024 (SCI)",
        "made_at": made_at.isoformat(timespec="seconds"),
        "model": record.key,
        "runs": _counts(record),
        "boundary": "all reserved devices while the runs ran: training with its tuning and failed runs, "
        "and evaluation; not the model in use",
        "pue": pue,
        "pue_note": "" if pue else "not set: the building's share is not in the score",
        "sci": _shown(score.score_g) if score is not None and score.score_g is not None else None,
        "sci_unit": f"gCO2e per {inputs.unit}" if inputs.unit else None,
        "operational_g": _shown(score.operational_g) if score is not None else None,
        "embodied_g": _shown(score.embodied_g) if score and score.embodied_g else None,
        "embodied_source": inputs.hardware.source if inputs.hardware is not None else None,
        "missing": missing,
        **parts,
    }
    return to_json(document)


def _counts(record: ModelRecord) -> dict[str, int]:
    """How many runs of each kind are in the figures; a run can be of several kinds."""
    if record.whole is None:
        return {"all": 0}
    evaluation = record.phases.get(EVALUATION)
    return {
        "all": record.whole.runs,
        "nested": record.whole.child_runs,
        "failed": record.whole.failed_runs,
        "evaluation": evaluation.runs if evaluation is not None else 0,
        "unmeasured": record.whole.unmeasured_runs,
    }


def _missing(phase: Phase | None, inputs: Inputs) -> list[str]:
    found = []
    if inputs.units is None:
        found.append("R: how many of which unit (--per 1000 --unit prediction)")
    if inputs.hardware is None:
        found.append("TE: embodied emissions of the hardware (--embodied-kg or --embodied)")
    if phase is None or phase.boundary_j is None:
        found.append("E: energy of the reserved devices is not on record for every run")
    elif phase.unmeasured_runs:
        found.append(f"E: {phase.note}")
    if phase is not None and phase.no_emissions:
        found.append(f"I: {phase.no_emissions}")
    if inputs.hardware is not None and (phase is None or phase.duration_s is None):
        found.append("TiR: the time of the runs is not on record")
    return found


def _score(
    phase: Phase,
    boundary_j: float,
    g_per_kwh: Range,
    pue: float,
    inputs: Inputs,
    missing: list[str],
) -> sci.Sci:
    embodied = None
    if inputs.hardware is not None and phase.duration_s is not None:
        embodied = sci.embodied_g(inputs.hardware, phase.duration_s)
    return sci.Sci(
        operational_g=sci.operational_g(boundary_j, g_per_kwh, pue),
        embodied_g=embodied,
        units=None if phase.unmeasured_runs else inputs.units,
        unit=inputs.unit,
        missing=tuple(missing),
    )


def _intensity(phase: Phase) -> Range | None:
    """What the runs' emissions and energy imply, so that runs in several places weigh as they should."""
    if phase.emissions_g is None or phase.energy_j is None or not phase.energy_j.mid:
        return None
    return phase.emissions_g.scaled(J_PER_KWH / phase.energy_j.mid)


def _beside(boundary_j: float, pue: float, inputs: Inputs) -> dict[str, Any]:
    """Energy, water and money of the same boundary."""
    found: dict[str, Any] = {"energy_kwh": rounded(kwh(boundary_j) * pue)}
    site, grid = inputs.water_site_l_per_kwh, inputs.water_grid_l_per_kwh
    if site is not None or grid is not None:
        litres = sci.water_l(
            boundary_j, site_l_per_kwh=site or 0, grid_l_per_kwh=grid or 0, pue=pue
        )
        found["water_l"] = rounded(litres)
        known = ["on the site"] * (site is not None) + ["of the grid"] * (grid is not None)
        found["water_note"] = (
            "only " + known[0] if len(known) == 1 else "on the site and of the grid"
        )
    if inputs.price_per_kwh is not None:
        money = sci.cost(boundary_j, price_per_kwh=inputs.price_per_kwh, pue=pue)
        found["cost"] = {"amount": rounded(money), "currency": inputs.currency or "not said"}
    return found


def _tag_number(record: ModelRecord, name: str) -> float | None:
    try:
        value = float(record.tag(name))
    except ValueError:
        return None
    return value if 1 <= value < 10 else None


def _shown(figure: Range) -> dict[str, float]:
    return {"low": rounded(figure.low), "mid": rounded(figure.mid), "high": rounded(figure.high)}
