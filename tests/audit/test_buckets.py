"""A snapshot in buckets gives the audit the whole one gives, and every tree of runs stays in one bucket."""

from __future__ import annotations

import sqlite3
import tempfile
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mlflow_carbon.audit.place import Bucket
from mlflow_carbon.audit.run import run_audit
from mlflow_carbon.audit.select import AuditRequest
from mlflow_carbon.audit.summary import Audit
from mlflow_carbon.cli.export import command as export
from mlflow_carbon.errors import OutputError, StoreError
from mlflow_carbon.evidence.buckets import RUN_OF, divided
from mlflow_carbon.evidence.query import Query
from mlflow_carbon.evidence.snapshot import TABLES, write_snapshot
from mlflow_carbon.evidence.sql import Database
from mlflow_carbon.evidence.store import open_store
from mlflow_carbon.policy.model import Pack
from mlflow_carbon.schema import Metric, Tag
from tests.audit.test_assess import LATER
from tests.audit.test_matrix import NOW, ONE_RUN, write
from tests.audit.test_matrix import PACKS as RANDOM_PACKS
from tests.audit.test_sources import PACKS, audited, snapshot
from tests.evidence.conftest import Seeded

PARENT = "mlflow.parentRunId"


@pytest.fixture(scope="module")
def taken(sqlite_store: Seeded, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The seeded store in five buckets; some of them are empty."""
    folder = tmp_path_factory.mktemp("snapshots") / "buckets"
    return Path(snapshot(sqlite_store.uri, folder, "--buckets", "5"))


def test_a_store_its_snapshot_and_its_snapshot_in_buckets_give_one_answer(
    sqlite_store: Seeded, taken: Path, tmp_path: Path
) -> None:
    through_mlflow = audited(sqlite_store.uri, "plain")
    assert audited(snapshot(sqlite_store.uri, tmp_path / "whole"), "columns") == through_mlflow
    assert audited(str(taken), "columns") == through_mlflow
    assert audited(str(taken), "auto") == through_mlflow
    query = Query(filter="metrics.auc > 0.5")
    assert audited(str(taken), "columns", query) == audited(sqlite_store.uri, "plain", query)


def test_every_row_is_in_exactly_one_bucket(
    sqlite_store: Seeded, taken: Path, tmp_path: Path
) -> None:
    whole = Path(snapshot(sqlite_store.uri, tmp_path / "whole"))
    for table in RUN_OF:
        rows = pq.read_table(whole / table).to_pylist()
        divided_rows = pq.read_table(taken / table).to_pylist()
        assert sorted(map(repr, divided_rows)) == sorted(map(repr, rows)), table


def test_a_tree_of_runs_stays_together_also_a_circle_of_them(tmp_path: Path) -> None:
    parents = {1: 0, 2: 1, 3: 2, 4: 3, 5: 4, 6: 0, 8: 9, 9: 10, 10: 8, 11: 10, 12: 11, 13: 13, 14: 99}  # fmt: skip
    path = tmp_path / "mlflow.db"
    write(path, [_run(parents.get(i)) for i in range(16)])
    source = Database(f"sqlite:///{path}")
    try:
        with divided(source, 1000) as into:
            places = dict(into.con.execute("SELECT id, bucket FROM place").fetchall())
    finally:
        source.close()
    bucket = {i: places[f"{i:032x}"] for i in range(16)}
    assert {bucket[i] for i in range(7)} == {bucket[0]}
    assert {bucket[i] for i in range(8, 13)} == {bucket[8]}
    assert len({bucket[i] for i in (0, 7, 8, 13, 14, 15)}) > 3


def _run(parent: int | None) -> dict[str, Any]:
    tags = {} if parent is None else {PARENT: f"{parent:032x}"}
    return {"name": "", "status": "FINISHED", "start": 0, "end": 1, "metrics": {}, "params": {}, "tags": tags,
            "cards": {}, "inputs": []}  # fmt: skip


ENERGY_KWH = st.sampled_from([0.0, 0.1, 0.2, 0.3, 1.0 / 3, 7e-9, 1e9, 2e-300])


@st.composite
def forests(draw: Any) -> list[dict[str, Any]]:
    """Random runs, many of them in trees (or circles), with energy and emissions."""
    runs = draw(st.lists(ONE_RUN, min_size=1, max_size=8))
    for run in runs:
        parent = draw(st.none() | st.integers(0, len(runs)))
        tags = {} if parent is None else {PARENT: f"{parent:032x}"}
        for tag, values in {
            Tag.TREE: ["inclusive", "exclusive"],
            Tag.METHOD: ["counter", "modelled"],
            Tag.METHODS: ['{"gpu": "counter", "cpu": "modelled"}', "{"],
            Tag.FACTOR: ["41"],
            Tag.FACTOR_BASIS: ["lifecycle", "direct"],
        }.items():
            if draw(st.booleans()):
                tags[tag] = draw(st.sampled_from(values))
        metrics = draw(
            st.dictionaries(
                st.sampled_from([Metric.ENERGY_KWH, Metric.ENERGY_KWH_LOW, Metric.ENERGY_KWH_HIGH,
                                 Metric.EMISSIONS_KG, Metric.GPU_ENERGY_KWH, Metric.CPU_ENERGY_KWH]),
                ENERGY_KWH,
            )
        )  # fmt: skip
        run["tags"] |= tags
        run["metrics"] |= metrics
    return runs


def _written(folder: Path, runs: list[dict[str, Any]], buckets: int) -> str:
    """A snapshot of random runs, through the same code as any."""
    path = folder / "mlflow.db"
    if not path.exists():
        write(path, runs)
        kinds = {pa.int64(): "BIGINT", pa.float64(): "FLOAT", pa.bool_(): "BOOLEAN"}
        with closing(sqlite3.connect(path)) as connection:
            for table, columns in TABLES.items():
                listed = ", ".join(f"{name} {kinds.get(kind, 'TEXT')}" for name, kind in columns.items())  # fmt: skip
                connection.execute(f"CREATE TABLE IF NOT EXISTS {table} ({listed})")
            connection.execute("CREATE TABLE IF NOT EXISTS metrics (run_uuid TEXT)")
            connection.execute("INSERT INTO experiments VALUES (7, 'credit', 'active', 'default')")
            connection.commit()
    source = Database(f"sqlite:///{path}")
    try:
        write_snapshot(source, None, folder / f"in-{buckets}", NOW, {}, buckets)
    finally:
        source.close()
    return str(folder / f"in-{buckets}")


def _audit(store: str, one: Pack, engine: str, listed: int) -> Audit | str:
    request = AuditRequest(store=store, packs=(one,), engine=engine, listed_findings=listed)
    try:
        made = run_audit(request, NOW)
    except StoreError as error:
        return str(error).partition(": ")[2]
    return replace(made, selection=replace(made.selection, store=""))


@settings(max_examples=6, deadline=None, suppress_health_check=list(HealthCheck))
@given(runs=forests(), one=RANDOM_PACKS, listed=st.sampled_from([0, 3, 2_000]))
def test_random_runs_in_buckets_and_in_one_piece_are_audited_the_same(
    runs: list[dict[str, Any]], one: Pack, listed: int
) -> None:
    with tempfile.TemporaryDirectory() as name:
        whole, parts = _written(Path(name), runs, 1), _written(Path(name), runs, 3)
        in_columns = _audit(whole, one, "columns", listed)
        assert _audit(parts, one, "columns", listed) == in_columns
        run_by_run = _audit(whole, one, "auto", listed)
    if isinstance(in_columns, Audit) and isinstance(run_by_run, Audit):
        assert in_columns.rules == run_by_run.rules
        assert set(in_columns.findings) <= set(run_by_run.findings)


def test_all_findings_and_all_digests_of_buckets_are_those_of_the_whole(
    sqlite_store: Seeded, taken: Path, tmp_path: Path
) -> None:
    whole = snapshot(sqlite_store.uri, tmp_path / "whole")
    rows = []
    for store in (whole, str(taken)):
        out = tmp_path / Path(store).name
        asked = AuditRequest(
            store=store,
            packs=PACKS,
            engine="columns",
            findings_file=out.with_suffix(".findings"),
            digests_file=out.with_suffix(".digests"),
        )
        run_audit(asked, LATER)
        files = (asked.findings_file, asked.digests_file)
        rows.append([sorted(map(repr, pq.read_table(file).to_pylist())) for file in files])
    assert rows[0] == rows[1]
    assert (tmp_path / "buckets.findings").is_dir()
    with pytest.raises(OutputError, match="is there already"):
        run_audit(asked, LATER)
    assert sorted(one.name for one in tmp_path.iterdir()) == [
        "buckets.digests", "buckets.findings", "whole", "whole.digests", "whole.findings",
    ]  # fmt: skip


def test_a_bucket_that_was_changed_is_named_and_nothing_is_left_behind(
    sqlite_store: Seeded, tmp_path: Path
) -> None:
    folder = Path(snapshot(sqlite_store.uri, tmp_path / "taken", "--buckets", "2"))
    file = min((folder / "tags").glob("bucket-*"))
    file.write_bytes(file.read_bytes() + b"x")
    asked = AuditRequest(
        store=str(folder), packs=PACKS, engine="columns", findings_file=tmp_path / "all"
    )
    with pytest.raises(StoreError, match=f"{file.name}: was changed"):
        run_audit(asked, LATER)
    with pytest.raises(StoreError, match=f"{file.name}: was changed"):
        open_store(str(folder))
    assert [one.name for one in tmp_path.iterdir()] == ["taken"]


def test_a_machine_that_sees_another_snapshot_or_none_is_told(taken: Path, tmp_path: Path) -> None:
    with (
        pytest.raises(StoreError, match="is another snapshot"),
        Bucket(taken, "0" * 64, 0).opened(),
    ):
        pass
    with pytest.raises(StoreError, match="same path"), Bucket(tmp_path / "no", "", 0).opened():
        pass


def test_spark_is_refused_where_it_could_not_read(
    sqlite_store: Seeded, server: str, taken: Path, tmp_path: Path
) -> None:
    whole = snapshot(sqlite_store.uri, tmp_path / "whole")
    for store in (sqlite_store.uri, server):
        with pytest.raises(StoreError, match="export evidence FOLDER --store STORE --buckets N"):
            audited(store, "spark")
    with pytest.raises(StoreError, match=r"is not divided.*--buckets N"):
        audited(whole, "spark")
    with pytest.raises(StoreError, match="does not go with --model alone"):
        audited(str(taken), "spark", Query(models=("credit",)))


def test_without_pyspark_the_command_to_install_it_is_told(taken: Path) -> None:
    with pytest.raises(StoreError, match=r"pip install 'mlflow-carbon\[spark\]'.*Java 17"):
        audited(str(taken), "spark")


@pytest.mark.parametrize("count", ["0", "10001", "-1", "many"])
def test_a_number_of_buckets_out_of_bounds_is_refused(
    sqlite_store: Seeded, tmp_path: Path, count: str
) -> None:
    arguments = ["evidence", str(tmp_path / "x"), "--store", sqlite_store.uri, "--buckets", count]
    refused = CliRunner().invoke(export, arguments)
    assert refused.exit_code == 2
    assert "--buckets" in refused.output
    assert list(tmp_path.iterdir()) == []
