"""Sentences with places for facts: ``The run used {metric:carbon/energy_kwh|kWh}.``

A place is replaced by the shown value, once: what stands in a value is never read as a
place again, and no attribute, index or format specification can be written in one.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from mlflow_carbon.evidence.model import FactValue
from mlflow_carbon.policy.operators import MismatchError, number, shown
from mlflow_carbon.units import G_PER_KG, J_PER_KWH, show_duration, show_emissions, show_energy

_PLACE = re.compile(r"\{([a-z_]+(?:\.[a-z_]+)?):([^{}|]{1,250})(?:\|([^{}|]{1,20}))?\}")
NOT_ON_RECORD = "(not on record)"
PARAMETER = "parameter"

_UNITS: dict[str, Callable[[float], str]] = {
    "kWh": lambda value: show_energy(value * J_PER_KWH),
    "kg": lambda value: show_emissions(value * G_PER_KG),
    "s": show_duration,
    "%": lambda value: f"{value * 100:.3g} %",
}


def places(template: str) -> Iterator[tuple[str, str]]:
    """(namespace, key) of every place, in order."""
    return ((m[1], m[2]) for m in _PLACE.finditer(template))


def stray_brace(template: str) -> int | None:
    """Where a brace stands that belongs to no place; ``None``: nowhere."""
    rest = _PLACE.sub(lambda m: " " * len(m[0]), template)
    return next((at for at, c in enumerate(rest) if c in "{}"), None)


def render(template: str, value_of: Callable[[str, str], FactValue | str | None]) -> str:
    """The sentence with its places filled; ``value_of(namespace, key)`` may know nothing (``None``)."""

    def filled(match: re.Match[str]) -> str:
        value = value_of(match[1], match[2])
        return NOT_ON_RECORD if value is None else with_unit(value, match[3] or "")

    return _PLACE.sub(filled, template)


def put_parameters(template: str, values: dict[str, str]) -> str:
    """Fill the ``{parameter:NAME}`` places; braces in a value cannot make new places."""

    def filled(match: re.Match[str]) -> str:
        if match[1] != PARAMETER or match[2] not in values:
            return match[0]
        return values[match[2]].replace("{", "(").replace("}", ")")

    return _PLACE.sub(filled, template)


def with_unit(value: FactValue, unit: str) -> str:
    """A value with its unit, in the size a person reads (kWh, kg, s and % are scaled)."""
    if not unit:
        return shown(value)
    try:
        figure = number(value)
    except MismatchError:
        return shown(value)
    return _UNITS[unit](figure) if unit in _UNITS else f"{figure:.4g} {unit}"
