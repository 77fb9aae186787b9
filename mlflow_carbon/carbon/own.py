"""The user's own emission factors: a CSV whose every row says where it is from."""

from __future__ import annotations

import csv
import hashlib
import io
import logging
import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from mlflow_carbon import settings as settings_module
from mlflow_carbon.errors import DataError
from mlflow_carbon.settings import Settings
from mlflow_carbon.units import Range

REQUIRED = ("code", "name", "year", "g_per_kwh", "basis", "source", "license")
OPTIONAL = ("low", "high", "kind", "note")
MAX_BYTES = 10_000_000
MAX_G_PER_KWH = 2000.0
"""Above any grid or generator there is; a larger number is in another unit."""

_log = logging.getLogger(__name__)


class OwnFactor(NamedTuple):
    """One row of the user's table."""

    code: str
    name: str
    year: int
    g_per_kwh: Range
    basis: str
    """``lifecycle`` or ``direct``."""
    kind: str
    """``average`` or ``marginal``."""
    source: str
    license: str
    note: str
    spread: str
    table: str
    table_sha256: str


def own_factors(settings: Settings) -> Mapping[str, OwnFactor]:
    """The rows of the user's table by code; none when there is no table.

    A damaged table is told in the log and not used at all, so that training goes on.
    """
    path = settings_module.factor_table(settings)
    if path is None or (settings.factor_table is None and not path.is_file()):
        return {}
    try:
        return load(path)
    except DataError as error:
        _log.warning("mlflow-carbon: own emission factors not used: %s", error)
        return {}


def load(path: Path) -> Mapping[str, OwnFactor]:
    """Every row of a table.

    Raises:
        DataError: unreadable or damaged; one line for each problem, with its place.
    """
    content = _read(path)
    header, lines = _parsed(path, content)
    problems = [f"{path}:1: {problem}" for problem in _header_problems(header)]
    found: dict[str, OwnFactor] = {}
    sha256 = hashlib.sha256(content).hexdigest()
    for line, row in [] if problems else lines:
        faults = list(_row_problems(row))
        if row["code"] in found:
            faults.append(f"{row['code']} is there twice")
        problems.extend(f"{path}:{line}: {fault}." for fault in faults)
        if not faults:
            found[row["code"]] = _factor(row, path.name, sha256)
    if problems:
        raise DataError("\n".join(problems))
    if not found:
        raise DataError(f"{path}: holds no row.")
    return found


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}.") from None
    if len(content) > MAX_BYTES:
        raise DataError(
            f"{path}: larger than {MAX_BYTES // 1_000_000} MB; this is no factor table."
        )
    return content


def _parsed(path: Path, content: bytes) -> tuple[tuple[str, ...], list[tuple[int, dict[str, str]]]]:
    """The header, and every row with its line."""
    try:
        reader = csv.DictReader(io.StringIO(content.decode("utf-8-sig"), newline=""), strict=True)
        header = tuple(reader.fieldnames or ())
        return header, [(reader.line_num, row) for row in reader]
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: is not a CSV file in UTF-8: {error}.") from None


def _header_problems(header: tuple[str, ...]) -> Iterator[str]:
    if missing := [name for name in REQUIRED if name not in header]:
        yield f"missing columns: {', '.join(missing)}. Expected: {', '.join(REQUIRED + OPTIONAL)}."
    if unknown := [str(name) for name in header if name not in REQUIRED + OPTIONAL]:
        yield f"unknown columns: {', '.join(unknown)}. Expected: {', '.join(REQUIRED + OPTIONAL)}."


def _row_problems(row: Mapping[str, str]) -> Iterator[str]:
    cells: list[object] = [*row, *row.values()]  # csv marks what is too much or too little by None
    if None in cells:
        yield "has more or fewer cells than the header"
        return
    if not all(text.isprintable() for text in row.values()):
        yield "holds a control character"
    yield from (f"{name} is empty" for name in REQUIRED if not row[name].strip())
    if not re.fullmatch(r"[\w./-]{1,64}", row["code"]):
        yield f"code {row['code'][:64]!r} must be letters, digits and ./-_"
    if not re.fullmatch(r"(19|20)\d\d", row["year"]):
        yield f"year {row['year']!r} is not a year"
    if row["basis"] not in ("lifecycle", "direct"):
        yield f"basis {row['basis']!r} must be lifecycle or direct"
    if row.get("kind", "") not in ("", "average", "marginal"):
        yield f"kind {row['kind']!r} must be average or marginal"
    yield from _number_problems(row)


def _number_problems(row: Mapping[str, str]) -> Iterator[str]:
    names = [name for name in ("low", "g_per_kwh", "high") if row.get(name)]
    values = [_number(row[name]) for name in names]
    for name, value in zip(names, values, strict=True):
        if math.isnan(value):
            yield f"{name} {row[name]!r} must be a number from 0 to {MAX_G_PER_KWH:g} gCO2e/kWh"
    if sorted(values) != values and not any(map(math.isnan, values)):
        yield "low, g_per_kwh and high must not descend"


def _number(text: str) -> float:
    """The number, or NaN for what is none or out of bounds."""
    try:
        value = float(text)
    except ValueError:
        return math.nan
    return value if 0 <= value <= MAX_G_PER_KWH else math.nan


def _factor(row: Mapping[str, str], table: str, sha256: str) -> OwnFactor:
    mid = float(row["g_per_kwh"])
    low, high = float(row.get("low") or mid), float(row.get("high") or mid)
    return OwnFactor(
        code=row["code"],
        name=row["name"].strip(),
        year=int(row["year"]),
        g_per_kwh=Range(low, mid, high),
        basis=row["basis"],
        kind=row.get("kind") or "average",
        source=row["source"].strip(),
        license=row["license"].strip(),
        note=(row.get("note") or "").strip(),
        spread="as given in the table" if low < mid or high > mid else "none given in the table",
        table=table,
        table_sha256=sha256,
    )
