"""The energy account and the dataset register over the columns of many runs; the sums of ``account``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mlflow_carbon.audit.account import FAILED, FAILED_EXITS, MEASURED, factor_text, methods_of
from mlflow_carbon.audit.summary import DatasetRow, EnergyAccount, MeasuringCost, RunEnergyRow
from mlflow_carbon.evidence.facts import PARENT_TAG
from mlflow_carbon.evidence.tables import Tables
from mlflow_carbon.evidence.trees import CLOCK_SLACK_MS, ROUNDING, Node, count_once
from mlflow_carbon.schema import MIXED_BASES, Metric, Tag
from mlflow_carbon.units import G_PER_KG, J_PER_KWH, Range

LISTED_RUNS = 500
LISTED_DATASETS = 5_000

_ENERGY = (Metric.ENERGY_KWH_LOW, Metric.ENERGY_KWH, Metric.ENERGY_KWH_HIGH)
_EMISSIONS = (Metric.EMISSIONS_KG_LOW, Metric.EMISSIONS_KG, Metric.EMISSIONS_KG_HIGH)
_PARTS = {
    "gpu": Metric.GPU_ENERGY_KWH,
    "cpu": Metric.CPU_ENERGY_KWH,
    "dram": Metric.DRAM_ENERGY_KWH,
}
_TAGS = (
    Tag.TREE,
    Tag.METHOD,
    Tag.METHODS,
    Tag.EXIT,
    Tag.FACTOR,
    Tag.FACTOR_SOURCE,
    Tag.FACTOR_YEAR,
)

FACTS = (
    *(
        f"metric.{name}"
        for name in (*_ENERGY, *_EMISSIONS, *_PARTS.values(), Metric.MEASURING_CPU_S)
    ),
    *(f"tag.{name}" for name in (*_TAGS, Tag.FACTOR_BASIS, PARENT_TAG)),
)
"""The columns the account needs."""


@dataclass(frozen=True, slots=True)
class Totals:
    """Sums over all runs of the tables."""

    tables: Tables

    def _column(self, fact: str) -> str:
        return self.tables.columns[fact].name

    def prepare(self) -> None:
        """Make the table ``energy``: one row for each run, figures as ``trees.energy_j`` has them."""
        figures = ", ".join(
            [*self._figure("e", _ENERGY, J_PER_KWH), *self._figure("g", _EMISSIONS, G_PER_KG)]
        )
        exits = ", ".join(f"'{one}'" for one in FAILED_EXITS)
        states = ", ".join(f"'{one}'" for one in FAILED)
        self._methods()
        tree, parent = self._column(f"tag.{Tag.TREE}"), self._column(f"tag.{PARENT_TAG}")
        parts = {name: self._column(f"metric.{metric}") for name, metric in _PARTS.items()}
        known = " + ".join(
            f"CASE WHEN m.{n} IS NULL THEN 0 ELSE COALESCE({c}, 0) END" for n, c in parts.items()
        )
        good = " + ".join(
            f"CASE WHEN m.{n} THEN COALESCE({c}, 0) ELSE 0 END" for n, c in parts.items()
        )
        measured = ", ".join(f"'{one}'" for one in MEASURED)
        method = f"COALESCE({self._column(f'tag.{Tag.METHOD}')} IN ({measured}), false)"
        self.tables.con.execute(
            f"CREATE TABLE energy AS SELECT *, e_mid * CASE WHEN known > 0 THEN good / known"
            " ELSE method::INTEGER END AS measured_j FROM ("
            f" SELECT rid, run_uuid, start_time, end_time, {figures},"
            f" {self._column(f'metric.{Metric.MEASURING_CPU_S}')} AS cost_s,"
            f" COALESCE({parent}, '') AS parent, COALESCE({tree} = 'inclusive', false) AS inclusive,"
            f" status IN ({states}) OR COALESCE({self._column(f'tag.{Tag.EXIT}')} IN ({exits}), false)"
            f" AS failed, {known} AS known, {good} AS good, {method} AS method"
            f" FROM run LEFT JOIN methods m ON m.methods = {self._column(f'tag.{Tag.METHODS}')})"
        )
        self._count()

    def _figure(self, name: str, metrics: Sequence[str], factor: float) -> list[str]:
        low, mid, high = (self._column(f"metric.{metric}") for metric in metrics)
        there = f"{mid} >= 0"
        return [
            f"CASE WHEN {there} THEN greatest(least({mid}, COALESCE({low}, {mid})), 0) * {factor!r} END AS {name}_low",
            f"CASE WHEN {there} THEN {mid} * {factor!r} END AS {name}_mid",
            f"CASE WHEN {there} THEN greatest({mid}, COALESCE({high}, {mid})) * {factor!r} END AS {name}_high",
        ]

    def _methods(self) -> None:
        """Which parts were measured, for each distinct text of the tag: NULL where it does not say."""
        con, column = self.tables.con, self._column(f"tag.{Tag.METHODS}")
        texts = [row[0] for row in con.execute(
            f"SELECT DISTINCT {column} FROM run WHERE {column} IS NOT NULL").fetchall()]  # fmt: skip
        said = [methods_of(text) for text in texts]
        measured = {
            name: [one[name] in MEASURED if name in one else None for one in said]
            for name in _PARTS
        }
        columns = "".join(f", unnest(${name}::BOOLEAN[]) AS {name}" for name in _PARTS)
        con.execute(
            f"CREATE TABLE methods AS SELECT unnest($methods::VARCHAR[]) AS methods{columns}",
            {"methods": texts, **measured},
        )

    def _count(self) -> None:
        """The table ``place``: each run counted, inside a counted one, or unmeasured; as ``trees.count_once``.

        A run is inside when it, or a run above it, is contained in its parent.
        """
        con = self.tables.con
        during = (
            "COALESCE(parent.start_time - $slack <= child.start_time"
            " AND child.end_time - $slack <= parent.end_time, false)"
        )
        con.execute(
            "CREATE TABLE nested AS SELECT child.rid, parent.rid AS above, child.e_low,"
            f" {during} AND parent.inclusive AND parent.e_mid IS NOT NULL AS during,"
            " parent.e_high * (1 + $rounding) AS room"
            " FROM energy child JOIN energy parent ON child.parent = parent.run_uuid",
            {"slack": CLOCK_SLACK_MS, "rounding": ROUNDING},
        )
        con.execute(
            "CREATE TABLE climb AS SELECT rid, above AS up, during AND fits AS inside FROM nested"
            " JOIN (SELECT above, COALESCE(sum(e_low) FILTER (during) <= any_value(room), true) AS fits"
            " FROM nested GROUP BY above) USING (above)"
        )
        con.execute("DROP TABLE nested")
        self._climb()
        con.execute(
            "CREATE TABLE place AS SELECT rid, CASE WHEN inside AND up IS NULL THEN 'inside'"
            " WHEN e_mid IS NULL THEN 'unmeasured' ELSE 'counted' END AS place"
            " FROM energy LEFT JOIN climb USING (rid)"
        )
        self._count_circles()

    def _climb(self) -> None:
        """Each run learns what stands above it, twice as far with every turn; above a root nothing does."""
        con, before, left = self.tables.con, -1, 0
        while left != before:
            con.execute(
                "CREATE OR REPLACE TABLE climb AS SELECT low.rid, high.up,"
                " low.inside OR COALESCE(high.inside, false) AS inside"
                " FROM climb low LEFT JOIN climb high ON low.up = high.rid"
            )
            before, left = left, con.execute("SELECT count(up) FROM climb").fetchall()[0][0]

    def _count_circles(self) -> None:
        """What never comes to a root hangs on a circle of parents; tags are free text."""
        con = self.tables.con
        rows = con.execute(
            "SELECT run_uuid, parent, start_time, end_time, e_low, e_mid, e_high, inclusive, rid"
            " FROM energy WHERE rid IN (SELECT rid FROM climb WHERE up IS NOT NULL)"
            " ORDER BY start_time, run_uuid"
        ).fetchall()
        nodes = {
            row[0]: Node(
                row[1], row[2], row[3],
                None if row[5] is None else Range(*row[4:7]), row[7],
            )
            for row in rows
        }  # fmt: skip
        inside = count_once(nodes).inside
        con.execute(
            "UPDATE place SET place = 'inside' WHERE rid IN (SELECT unnest($inside::BIGINT[]))",
            {"inside": [row[8] for row in rows if row[0] in inside]},
        )

    def account(self, rows: Sequence[RunEnergyRow]) -> EnergyAccount:
        """The account; ``rows``: the runs that are listed."""
        con = self.tables.con
        found = con.execute(
            "SELECT sum(e_low), sum(e_mid), sum(e_high), sum(g_low), sum(g_mid), sum(g_high),"
            " COALESCE(sum(measured_j), 0), count(*) FROM energy JOIN place USING (rid)"
            " WHERE place = 'counted'"
        ).fetchone()
        counts = dict(con.execute("SELECT place, count(*) FROM place GROUP BY 1").fetchall())
        everyone = sum(counts.values())
        energy, emissions = found[:3] if found else (None,), found[3:6] if found else (None,)
        total = None if energy[0] is None else Range(*energy)
        measured = found[6] if found else 0.0
        return EnergyAccount(
            rows=tuple(rows),
            total_j=total,
            measured_j=measured,
            modelled_j=max((total.mid if total else 0.0) - measured, 0.0),
            emissions_g=None if emissions[0] is None or self._bases() > 1 else Range(*emissions),
            runs_counted=counts.get("counted", 0),
            runs_inside_counted=counts.get("inside", 0),
            runs_unmeasured=counts.get("unmeasured", 0),
            failed_runs_j=self._failed_j(),
            factors=self._factors(),
            measuring=self._measuring(),
            rows_left_out=everyone - len(rows),
        )

    def _measuring(self) -> MeasuringCost | None:
        row = self.tables.con.execute(
            "SELECT sum(cost_s), sum((end_time - start_time) / 1000), count(*) FROM energy"
            " JOIN place USING (rid) WHERE place = 'counted' AND cost_s >= 0"
            " AND end_time IS NOT NULL AND start_time IS NOT NULL"
        ).fetchone()
        return MeasuringCost(*row) if row and row[2] else None

    def _failed_j(self) -> float:
        """What failed runs used; a failed run inside a failed one only once."""
        row = self.tables.con.execute(
            "WITH RECURSIVE up AS ("
            " SELECT f.rid AS rid, f.parent AS parent, f.rid AS at FROM energy f JOIN place USING (rid)"
            " WHERE failed AND e_mid IS NOT NULL AND place = 'inside'"
            " UNION SELECT up.rid, p.parent, p.rid FROM up JOIN place ON place.rid = up.at"
            " JOIN energy p ON p.run_uuid = up.parent WHERE place.place = 'inside')"
            " SELECT COALESCE(sum(e_mid), 0) FROM energy JOIN place USING (rid)"
            " WHERE failed AND place <> 'unmeasured' AND rid NOT IN ("
            " SELECT up.rid FROM up JOIN energy p ON p.rid = up.at"
            " WHERE up.at <> up.rid AND p.failed AND p.e_mid IS NOT NULL)"
        ).fetchone()
        return float(row[0]) if row else 0.0

    def _bases(self) -> int:
        """How many kinds of factor the counted emissions rest on: different kinds are not added up.

        A run that is mixed in itself counts as two.
        """
        basis = self._column(f"tag.{Tag.FACTOR_BASIS}")
        row = self.tables.con.execute(
            f"SELECT count(DISTINCT COALESCE({basis}, '')) + count(DISTINCT CASE WHEN"
            f" starts_with({basis}, '{MIXED_BASES}') THEN 1 END) FROM run JOIN place USING (rid)"
            " JOIN energy USING (rid) WHERE place = 'counted' AND g_mid IS NOT NULL"
        ).fetchone()
        return int(row[0]) if row else 0

    def _factors(self) -> tuple[str, ...]:
        names = [
            self._column(f"tag.{tag}")
            for tag in (Tag.FACTOR, Tag.FACTOR_SOURCE, Tag.FACTOR_YEAR, Tag.FACTOR_BASIS)
        ]
        rows = self.tables.con.execute(
            f"SELECT DISTINCT {', '.join(names)} FROM run JOIN place USING (rid)"
            f" WHERE place = 'counted' AND {names[0]} IS NOT NULL"
        ).fetchall()
        return tuple(sorted({factor_text(*(text or "" for text in row)) for row in rows}))

    def listed_runs(self) -> list[str]:
        """Ids of the runs that used most, at most ``LISTED_RUNS``; those without a figure last."""
        rows = self.tables.con.execute(
            "SELECT run_uuid FROM energy ORDER BY e_mid DESC NULLS LAST, run_uuid LIMIT $most",
            {"most": LISTED_RUNS},
        ).fetchall()
        return [row[0] for row in rows]

    def datasets(self) -> tuple[tuple[DatasetRow, ...], int]:
        """The register, most used first when there are too many; and how many are left out."""
        con = self.tables.con
        texts = ("hash_scope", "license", "origin", "sensitive", "declared_by", "source")
        said = ", ".join(
            f"COALESCE(list_sort(list(DISTINCT d_{key}) FILTER (d_{key} IS NOT NULL)), []) AS {key}"
            for key in texts
        )
        con.execute(
            f"CREATE TABLE register AS SELECT raw_name, raw_digest, COALESCE(d_sha256, '') AS sha256, {said},"
            " list(DISTINCT d_rows) FILTER (d_rows IS NOT NULL) AS rows,"
            " COALESCE(list_sort(list(DISTINCT raw_context) FILTER (raw_context <> '')), []) AS contexts,"
            " count(DISTINCT rid) AS runs FROM used GROUP BY ALL"
        )
        rows = con.execute(
            f"SELECT raw_name, raw_digest, sha256, {', '.join(texts)}, rows, contexts, runs FROM register"
            " ORDER BY runs DESC, raw_name, raw_digest, sha256 LIMIT $most",
            {"most": LISTED_DATASETS},
        ).fetchall()
        count = con.execute("SELECT count(*) FROM register").fetchone()
        made = sorted(map(_dataset_row, rows), key=lambda row: (row.name, row.digest, row.sha256))
        return tuple(made), (count[0] if count else 0) - len(made)


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
