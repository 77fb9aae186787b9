"""The fields of the EU model documentation form for general-purpose AI that evidence can fill (JSON).

The form is part of the GPAI Code of Practice (10 July 2025). Training energy is in MWh, compute in
floating point operations, both with two significant figures. What no record says is ``null`` and
listed under ``not_on_record``: the provider has to fill it in, or withhold it with the reason.
"""

from __future__ import annotations

import math
from datetime import datetime
from typing import Any

from mlflow_carbon.export.record import TRAINING, Dataset, ModelRecord, Phase, held_out
from mlflow_carbon.export.shown import rounded, to_json, two_digits
from mlflow_carbon.schema import Tag
from mlflow_carbon.units import kwh

KWH_PER_MWH = 1000.0
S_PER_DAY = 86_400.0

_FLOP = ("training_flop", "training_flops", "total_flos")
"""Names under which runs record the operations of a training, as metric or param; the last is of
Hugging Face's trainer."""
_PARAMETERS = ("num_parameters", "n_parameters", "parameters", "total_params", "num_params")


def render(record: ModelRecord, made_at: datetime) -> str:
    """The document."""
    fields = _fields(record)
    document = {
        "form": "GPAI Code of Practice, Model Documentation Form (2025-07-10): fields from evidence",
        "made_at": made_at.isoformat(timespec="seconds"),
        "fields": fields,
        "not_on_record": sorted(name for name, value in fields.items() if value in (None, [])),
    }
    return to_json(document)


def _fields(record: ModelRecord) -> dict[str, Any]:
    phase = record.phases.get(TRAINING)
    parameters, flop = _number(record, _PARAMETERS), _number(record, _FLOP)
    return {
        "model_name": record.name,
        "model_version": record.version,
        "model_identifier": record.source or None,
        "provider": record.owner or None,
        "release_date": f"{record.created:%Y-%m-%d}" if record.created is not None else None,
        "license": record.license or None,
        "intended_uses": record.purpose or None,
        "total_parameters": None if parameters is None else two_digits(parameters),
        "training_data": [_dataset(one) for one in record.datasets if not held_out(one)],
        "evaluation_data": [_dataset(one) for one in record.datasets if held_out(one)],
        "training_time_days": _time(phase),
        "training_compute_flop": None if flop is None else f"{flop:.1e}",
        "training_compute_order_of_magnitude": None if flop is None else f"1e{_magnitude(flop)}",
        "training_energy_mwh": _energy(phase),
        "training_energy_method": _method(record, phase),
        "inference_compute_flop": None,
    }


def _number(record: ModelRecord, names: tuple[str, ...]) -> float | None:
    for name in names:
        try:
            value = float(record.metrics.get(name, record.params.get(name, "")))
        except ValueError:
            continue
        if 0 < value < math.inf:
            return value
    return None


def _magnitude(flop: float) -> int:
    """The nearest power of ten."""
    return round(math.log10(flop))


def _time(phase: Phase | None) -> str | None:
    if phase is None or phase.duration_s is None:
        return None
    return two_digits(phase.duration_s / S_PER_DAY)


def _energy(phase: Phase | None) -> str | None:
    """Nothing rather than a lower bound where runs were not measured."""
    if phase is None or phase.energy_j is None or phase.unmeasured_runs:
        return None
    return two_digits(kwh(phase.energy_j.mid) / KWH_PER_MWH)


def _method(record: ModelRecord, phase: Phase | None) -> str | None:
    """The form asks for about a hundred words."""
    if phase is None or phase.energy_j is None:
        return None
    low, high = rounded(kwh(phase.energy_j.low)), rounded(kwh(phase.energy_j.high))
    return (
        f"Energy of {phase.runs} training and tuning runs, {phase.failed_runs} of them failed, recorded by "
        f"mlflow-carbon {record.tag(Tag.VERSION)} while they ran; each counted once, nested runs inside their "
        f"parents. Method behind most of the energy: {record.tag(Tag.METHOD) or 'not known'} "
        f"(grade {record.tag(Tag.GRADE) or 'not known'} from A, counters, to D, modelled). "
        f"Range of the sum: {low:g} to {high:g} kWh. Hardware: {record.tag(Tag.HARDWARE) or 'not known'}. "
        f"Power usage effectiveness of the site: {record.tag(Tag.PUE) or 'not set'}, not included. "
        f"{phase.note}".strip()
    )


def _dataset(one: Dataset) -> dict[str, Any]:
    texts = {
        "name": one.name,
        "role": one.context,
        "license": one.license,
        "provenance": one.origin,
        "collected": one.collected,
        "personal_data": one.sensitive,
        "declared_by": one.declared_by,
        "content_sha256": one.sha256,
    }
    points: dict[str, Any] = {"data_points": one.rows}
    return {name: text or None for name, text in texts.items()} | points
