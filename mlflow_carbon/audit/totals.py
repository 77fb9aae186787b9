"""The energy of many runs over their columns; the sums of ``account``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mlflow_carbon.audit.account import FAILED, FAILED_EXITS, MEASURED, factor_text, methods_of
from mlflow_carbon.audit.exact import Exact, exactly
from mlflow_carbon.audit.sums import EMISSIONS, ENERGY, LISTED_RUNS, EnergyPart
from mlflow_carbon.evidence.facts import PARENT_TAG
from mlflow_carbon.evidence.tables import Tables
from mlflow_carbon.evidence.trees import CLOCK_SLACK_MS, ROUNDING, Node, count_once
from mlflow_carbon.schema import Metric, Tag
from mlflow_carbon.units import G_PER_KG, J_PER_KWH, Range

_BATCH_ROWS = 65_536

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
            " (end_time::HUGEINT - start_time) / 1000.0::DOUBLE AS wall_s,"
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
            "COALESCE(parent.start_time::HUGEINT - $slack <= child.start_time"
            " AND child.end_time::HUGEINT - $slack <= parent.end_time, false)"
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

    def part(self) -> EnergyPart:
        """What these runs add to the account."""
        con = self.tables.con
        places = con.execute("SELECT place, count(*) FROM place GROUP BY 1").fetchall()
        counted = " FROM energy JOIN place USING (rid) WHERE place = 'counted'"
        measuring = f"{counted} AND cost_s >= 0 AND wall_s IS NOT NULL"
        ((told,),) = con.execute(f"SELECT count(*){measuring}").fetchall()
        sums = {
            **self._sums(ENERGY, f"{counted} AND e_mid IS NOT NULL"),
            **self._sums(EMISSIONS, f"{counted} AND g_mid IS NOT NULL"),
            **self._sums(("measured_j",), f"{counted} AND measured_j IS NOT NULL"),
            **self._sums(("failed_j",), self._failed()),
            **self._sums(("cost_s", "wall_s"), measuring),
        }
        return EnergyPart(
            sums=sums,
            places=dict(places),
            bases=self._bases(),
            factors=self._factors(),
            most=self._most(),
            measuring=told,
        )

    def _sums(self, columns: Sequence[str], rows: str) -> dict[str, Exact]:
        """The sum of each column; without rows there is none."""
        sums: dict[str, Exact] = {}
        found = self.tables.con.sql(f"SELECT {', '.join(columns)}{rows}")
        for batch in found.to_arrow_reader(_BATCH_ROWS):
            for name in columns:
                values = np.from_dlpack(batch.column(name))  # to_numpy() would import pandas
                sums[name] = sums.get(name, Exact()) + exactly(values)
        return sums

    def _failed(self) -> str:
        """SQL: what failed runs used; a failed run inside a failed one only once."""
        return (
            " FROM (WITH RECURSIVE up AS ("
            " SELECT f.rid AS rid, f.parent AS parent, f.rid AS at FROM energy f JOIN place USING (rid)"
            " WHERE failed AND e_mid IS NOT NULL AND place = 'inside'"
            " UNION SELECT up.rid, p.parent, p.rid FROM up JOIN place ON place.rid = up.at"
            " JOIN energy p ON p.run_uuid = up.parent WHERE place.place = 'inside')"
            " SELECT e_mid AS failed_j FROM energy JOIN place USING (rid)"
            " WHERE failed AND place <> 'unmeasured' AND e_mid IS NOT NULL AND rid NOT IN ("
            " SELECT up.rid FROM up JOIN energy p ON p.rid = up.at"
            " WHERE up.at <> up.rid AND p.failed AND p.e_mid IS NOT NULL))"
        )

    def _bases(self) -> frozenset[str]:
        """Which kinds of factor the counted emissions rest on."""
        rows = self.tables.con.execute(
            f"SELECT DISTINCT COALESCE({self._column(f'tag.{Tag.FACTOR_BASIS}')}, '') FROM run"
            " JOIN place USING (rid) JOIN energy USING (rid)"
            " WHERE place = 'counted' AND g_mid IS NOT NULL"
        ).fetchall()
        return frozenset(basis for (basis,) in rows)

    def _factors(self) -> frozenset[str]:
        names = [
            self._column(f"tag.{tag}")
            for tag in (Tag.FACTOR, Tag.FACTOR_SOURCE, Tag.FACTOR_YEAR, Tag.FACTOR_BASIS)
        ]
        rows = self.tables.con.execute(
            f"SELECT DISTINCT {', '.join(names)} FROM run JOIN place USING (rid)"
            f" WHERE place = 'counted' AND {names[0]} IS NOT NULL"
        ).fetchall()
        return frozenset(factor_text(*(text or "" for text in row)) for row in rows)

    def _most(self) -> tuple[tuple[float | None, str], ...]:
        rows = self.tables.con.execute(
            "SELECT e_mid, run_uuid FROM energy ORDER BY e_mid DESC NULLS LAST, run_uuid LIMIT $most",
            {"most": LISTED_RUNS},
        ).fetchall()
        return tuple((energy_j, run_id) for energy_j, run_id in rows)
