"""The energy account of very many runs from the sums of its parts."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import duckdb
import pyarrow as pa

from mlflow_carbon.audit.exact import Exact
from mlflow_carbon.audit.summary import DatasetRow, EnergyAccount, MeasuringCost, RunEnergyRow
from mlflow_carbon.evidence.trees import one_basis
from mlflow_carbon.units import Range

LISTED_RUNS = 500
LISTED_DATASETS = 5_000

ENERGY = ("e_low", "e_mid", "e_high")
EMISSIONS = ("g_low", "g_mid", "g_high")

_SAID = ("hash_scope", "license", "origin", "sensitive", "declared_by", "source")
_LISTS = (*_SAID, "rows", "contexts")


@dataclass(frozen=True, slots=True, kw_only=True)
class EnergyPart:
    """What some trees of runs add to the account."""

    sums: Mapping[str, Exact] = field(default_factory=dict)
    """``ENERGY`` and ``EMISSIONS`` of the counted runs (missing: no run has it), ``measured_j``, ``failed_j``,
    ``cost_s`` and ``wall_s`` of measuring."""
    places: Mapping[str, int] = field(default_factory=dict)
    """How many runs are counted, inside a counted one, unmeasured."""
    bases: frozenset[str] = frozenset()
    """What the factors of counted emissions mean."""
    factors: frozenset[str] = frozenset()
    most: tuple[tuple[float | None, str], ...] = ()
    """(J, run id) of the runs that used most."""
    measuring: int = 0
    """How many counted runs tell what measuring took."""


def most_first(run: tuple[float | None, str]) -> tuple[bool, float, str]:
    """The order of runs by what they used; those without a figure last."""
    energy_j, run_id = run
    return energy_j is None, -(energy_j or 0.0), run_id


def together(parts: Iterable[EnergyPart]) -> EnergyPart:
    """The parts as one."""
    sums: dict[str, Exact] = {}
    places: Counter[str] = Counter()
    bases: set[str] = set()
    factors: set[str] = set()
    most: list[tuple[float | None, str]] = []
    measuring = 0
    for part in parts:
        measuring += part.measuring
        for name, one in part.sums.items():
            sums[name] = sums[name] + one if name in sums else one
        places.update(part.places)
        bases |= part.bases
        factors |= part.factors
        most += part.most
    return EnergyPart(
        sums=sums,
        places=places,
        bases=frozenset(bases),
        factors=frozenset(factors),
        most=tuple(heapq.nsmallest(LISTED_RUNS, most, key=most_first)),
        measuring=measuring,
    )


def account(whole: EnergyPart, rows: Sequence[RunEnergyRow]) -> EnergyAccount:
    """The account; ``rows``: the runs that are listed."""

    def summed(names: Sequence[str]) -> Range | None:
        if names[1] not in whole.sums:
            return None
        return Range(*(whole.sums[name].rounded() for name in names))

    total = summed(ENERGY)
    measured = whole.sums.get("measured_j", Exact()).rounded()
    return EnergyAccount(
        rows=tuple(rows),
        total_j=total,
        measured_j=measured,
        modelled_j=max((total.mid if total else 0.0) - measured, 0.0),
        emissions_g=summed(EMISSIONS) if one_basis(whole.bases) else None,
        runs_counted=whole.places.get("counted", 0),
        runs_inside_counted=whole.places.get("inside", 0),
        runs_unmeasured=whole.places.get("unmeasured", 0),
        failed_runs_j=whole.sums.get("failed_j", Exact()).rounded(),
        factors=tuple(sorted(whole.factors)),
        measuring=_measuring(whole),
        rows_left_out=sum(whole.places.values()) - len(rows),
    )


def _measuring(whole: EnergyPart) -> MeasuringCost | None:
    if not whole.measuring:
        return None
    cpu_s, wall_s = (whole.sums[name].rounded() for name in ("cost_s", "wall_s"))
    return MeasuringCost(cpu_s, wall_s, whole.measuring)


def one_register(parts: Sequence[pa.Table]) -> tuple[tuple[DatasetRow, ...], int]:
    """The register of all datasets from those of parts, as ``listed_datasets`` has it."""
    lists = ", ".join(
        f"list_sort(list_distinct(flatten(list({name})))) AS {name}" for name in _LISTS
    )
    with duckdb.connect() as con:
        con.register("part", pa.concat_tables(parts))
        con.execute(
            f"CREATE TABLE register AS SELECT raw_name, raw_digest, sha256, {lists}, sum(runs) AS runs"
            " FROM part GROUP BY raw_name, raw_digest, sha256"
        )
        return listed_datasets(con)


def make_register(con: duckdb.DuckDBPyConnection) -> None:
    """The table ``register``: what was said of each content of each dataset in ``used``."""
    said = ", ".join(
        f"COALESCE(list_sort(list(DISTINCT d_{key}) FILTER (d_{key} IS NOT NULL)), []) AS {key}"
        for key in (*_SAID, "rows")
    )
    con.execute(
        f"CREATE TABLE register AS SELECT raw_name, raw_digest, COALESCE(d_sha256, '') AS sha256, {said},"
        " COALESCE(list_sort(list(DISTINCT raw_context) FILTER (raw_context <> '')), []) AS contexts,"
        " count(DISTINCT rid) AS runs FROM used GROUP BY ALL"
    )


def listed_datasets(con: duckdb.DuckDBPyConnection) -> tuple[tuple[DatasetRow, ...], int]:
    """The rows of ``register``, the most used when there are too many; and how many are left out."""
    rows = con.execute(
        f"SELECT raw_name, raw_digest, sha256, {', '.join(_LISTS)}, runs FROM register"
        " ORDER BY runs DESC, raw_name, raw_digest, sha256 LIMIT $most",
        {"most": LISTED_DATASETS},
    ).fetchall()
    (count,) = con.execute("SELECT count(*) FROM register").fetchall()
    made = sorted(map(_dataset_row, rows), key=lambda row: (row.name, row.digest, row.sha256))
    return tuple(made), count[0] - len(made)


def _dataset_row(row: Sequence[object]) -> DatasetRow:
    name, digest, sha256, *told = row
    texts = [" | ".join(map(str, one)) if isinstance(one, list) else "" for one in told[:6]]
    rows, contexts, runs = told[6:]
    only = rows[0] if isinstance(rows, list) and len(rows) == 1 else ""
    return DatasetRow(
        name=str(name),
        digest=str(digest),
        sha256=str(sha256),
        hash_scope=texts[0],
        rows=int(only) if str(only).isascii() and str(only).isdigit() else None,
        license=texts[1],
        origin=texts[2],
        sensitive=texts[3],
        declared_by=texts[4],
        contexts=tuple(map(str, contexts)) if isinstance(contexts, list) else (),
        runs=int(str(runs)),
        source=texts[5],
    )
