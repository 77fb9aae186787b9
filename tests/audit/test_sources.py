"""One seeded store read in every way there is: the same runs, the same answers, the same account."""

from __future__ import annotations

import runpy
import shutil
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path

import pytest
from click.testing import CliRunner
from mlflow import MlflowClient
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

from mlflow_carbon.audit.run import run_audit
from mlflow_carbon.audit.select import AuditRequest
from mlflow_carbon.audit.summary import Audit
from mlflow_carbon.cli.export import command as export
from mlflow_carbon.errors import FilterError, OutputError, StoreError
from mlflow_carbon.evidence.model import Evidence
from mlflow_carbon.evidence.query import Query
from mlflow_carbon.evidence.snapshot import SUMS
from mlflow_carbon.evidence.store import open_store
from mlflow_carbon.policy.load import load_pack
from tests.audit.test_assess import LATER
from tests.evidence.conftest import Seeded, seed

PACKS = tuple(load_pack(name) for name in ("baseline", "promotion-gate"))
FILTERS = (
    "metrics.auc > 0.5",
    "metrics.odd != 3",
    "metrics.odd > 1",
    "tags.`mlflow_carbon.tree` = 'inclusive' and attributes.status = 'FINISHED'",
    "attributes.run_name LIKE 'ev%'",
    "attributes.run_name LIKE 'EV%'",
    "attributes.run_name ILIKE 'EV%'",
    "attributes.start_time >= 1010000 and attributes.start_time < 2000000",
    "params.`a/b c.d` LIKE 'xx%'",
    "datasets.name = 'loans'",
    "datasets.context = 'testing'",
)


def snapshot(uri: str, folder: Path, *more: str) -> str:
    made = CliRunner().invoke(export, ["evidence", str(folder), "--store", uri, *more])
    if made.exception:
        raise made.exception
    return str(folder)


def audited(uri: str, engine: str = "auto", query: Query | None = None) -> Audit:
    request = AuditRequest(store=uri, packs=PACKS, query=query or Query(), engine=engine)
    made = run_audit(request, LATER)
    rows = tuple(sorted(made.energy.rows, key=lambda row: row.run_id))
    return replace(
        made,
        energy=replace(made.energy, rows=rows),
        selection=replace(made.selection, store=""),
    )


def ids(runs: Iterator[Evidence]) -> list[str]:
    return sorted(run.subject.key for run in runs)


def test_database_server_and_snapshot_give_one_answer(
    sqlite_store: Seeded, server: str, tmp_path: Path
) -> None:
    taken = snapshot(sqlite_store.uri, tmp_path / "taken")
    through_mlflow = audited(sqlite_store.uri, "plain")
    assert audited(sqlite_store.uri) == through_mlflow
    assert audited(sqlite_store.uri, "columns") == through_mlflow
    assert audited(server) == through_mlflow
    assert audited(taken) == through_mlflow
    assert audited(taken, "columns") == through_mlflow


def test_postgresql_and_its_snapshot_give_one_answer(postgres_uri: str, tmp_path: Path) -> None:
    SqlAlchemyStore(postgres_uri, "/tmp/none")
    seed(postgres_uri)
    through_mlflow = audited(postgres_uri, "plain")
    assert audited(postgres_uri) == through_mlflow
    assert audited(snapshot(postgres_uri, tmp_path / "taken"), "columns") == through_mlflow
    store = open_store(postgres_uri)
    by_mlflow = open_store(postgres_uri, through_mlflow=True)
    for text in FILTERS:
        assert ids(store.runs(Query(filter=text))) == ids(by_mlflow.runs(Query(filter=text))), text


@pytest.mark.parametrize("text", FILTERS)
def test_a_filter_means_what_it_means_in_mlflow(sqlite_store: Seeded, text: str) -> None:
    query = Query(filter=text)
    by_mlflow = ids(open_store(sqlite_store.uri, through_mlflow=True).runs(query))
    found = audited(sqlite_store.uri, query=query) if by_mlflow else None
    if found is None:
        with pytest.raises(StoreError, match="has no runs"):
            audited(sqlite_store.uri, query=query)
        return
    assert found.selection.filter == text
    assert found.selection.runs_selected == len(by_mlflow)
    assert found == audited(sqlite_store.uri, "plain", query)


def test_since_and_until_select_by_the_beginning_of_the_run(sqlite_store: Seeded) -> None:
    query = Query(
        since=datetime.fromtimestamp(1010, timezone.utc),
        until=datetime.fromtimestamp(2000, timezone.utc),
    )
    found = audited(sqlite_store.uri, "columns", query)
    assert found.selection.runs_selected == 3
    assert found == audited(sqlite_store.uri, "plain", query)


def test_a_filter_that_mlflow_does_not_understand_is_a_usage_error(
    sqlite_store: Seeded, server: str
) -> None:
    ways = [(sqlite_store.uri, "auto"), (sqlite_store.uri, "columns"), (sqlite_store.uri, "plain")]
    for uri, engine in [*ways, (server, "auto"), (server, "plain")]:
        with pytest.raises(FilterError, match=r"--filter 'metrics\.auc !'") as told:
            audited(uri, engine, Query(filter="metrics.auc !"))
        assert told.value.exit_code == 2
        with pytest.raises(FilterError, match="RLIKE"):
            audited(uri, engine, Query(filter="attributes.run_name RLIKE '^e'"))


def test_a_snapshot_holds_the_runs_asked_for_and_no_others(
    sqlite_store: Seeded, tmp_path: Path
) -> None:
    taken = snapshot(sqlite_store.uri, tmp_path / "taken", "--filter", "metrics.auc > 0.5")
    runs = {run.subject.key: run for run in open_store(taken).runs(Query())}
    assert set(runs) == {sqlite_store.parent, sqlite_store.evaluation}
    assert runs[sqlite_store.parent].facts["param.a/b c.d"].value == "x" * 6000


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (lambda folder: (folder / "runs" / "part-00000.parquet").write_bytes(b"x"), "was changed"),
        (lambda folder: shutil.rmtree(folder / "tags"), "not there any more"),
        (lambda folder: (folder / "runs" / "part-00001.parquet").write_bytes(b"x"), "was added"),
        (lambda folder: (folder / SUMS).write_text(""), "was added"),
    ],
)
def test_a_snapshot_that_is_not_as_it_was_made_is_refused(
    sqlite_store: Seeded, tmp_path: Path, spoil: object, told: str
) -> None:
    folder = Path(snapshot(sqlite_store.uri, tmp_path / "taken"))
    assert callable(spoil)
    spoil(folder)
    with pytest.raises(StoreError, match=told):
        open_store(str(folder))


def test_a_snapshot_is_never_written_over_something(sqlite_store: Seeded, tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="is there already"):
        snapshot(sqlite_store.uri, tmp_path)


def test_workspaces_are_never_mixed(sqlite_copy: Path) -> None:
    import sqlite3

    uri = f"sqlite:///{sqlite_copy}"
    MlflowClient(uri, uri).create_experiment("elsewhere")
    with sqlite3.connect(sqlite_copy) as connection:
        connection.execute("UPDATE experiments SET workspace = 'lab' WHERE name = 'elsewhere'")
    connection.close()
    with pytest.raises(StoreError, match="workspaces default, lab"):
        open_store(uri).experiments(Query())
    assert list(open_store(uri).experiments(Query(workspace="lab")).values()) == ["elsewhere"]
    assert "elsewhere" not in open_store(uri).experiments(Query(workspace="default")).values()
    with pytest.raises(StoreError, match="nothing is in workspace 'x'"):
        open_store(uri).experiments(Query(workspace="x"))


def test_two_thousand_runs_and_their_answers_are_those_of_search_runs(tmp_path: Path) -> None:
    uri = f"sqlite:///{tmp_path / 'many.db'}"
    script = Path(__file__).parents[1] / "benchmarks" / "seed_store.py"
    runpy.run_path(str(script))["seed"](uri, 2_000)
    tables, through_mlflow = open_store(uri), open_store(uri, through_mlflow=True)
    found = {run.subject.key: run for run in tables.runs(Query())}
    wanted = {run.subject.key: run for run in through_mlflow.runs(Query())}
    assert len(wanted) == 2_000
    assert found.keys() == wanted.keys()
    for run_id, run in wanted.items():
        assert dict(found[run_id].facts) == dict(run.facts)
        assert [one.subject for one in found[run_id].members["datasets"]] == [
            one.subject for one in run.members["datasets"]
        ]
    columns, plain = audited(uri, "columns"), audited(uri, "plain")
    assert columns.rules == plain.rules
    assert columns.energy.total_j == plain.energy.total_j
    assert columns.datasets == plain.datasets
    assert set(columns.findings) <= set(plain.findings)


NAMES = ("o'brien", 'the "best" one', """both ' and \"""", "数据-ä", "100%_x \\ y")


@pytest.mark.parametrize("engine", ["auto", "plain"])
def test_a_model_of_any_name_selects_its_versions_and_the_runs_behind_them(
    engine: str, sqlite_copy: Path, sqlite_store: Seeded
) -> None:
    uri = f"sqlite:///{sqlite_copy}"
    client = MlflowClient(uri, uri)
    for name in NAMES:
        client.create_registered_model(name)
        client.create_model_version(name, f"runs:/{sqlite_store.trials[0]}/m", sqlite_store.trials[0])  # fmt: skip
        client.create_model_version(name, f"runs:/{sqlite_store.evaluation}/m", sqlite_store.evaluation)  # fmt: skip
    for name in NAMES:
        store = open_store(uri, through_mlflow=engine == "plain")
        (model,) = store.models(Query(models=(name, name)))  # named twice, it is one model
        store.close()
        assert model.versions == {"1": sqlite_store.trials[0], "2": sqlite_store.evaluation}
        found = audited(uri, engine, Query(models=(name,)))
        behind = {sqlite_store.parent, *sqlite_store.trials, sqlite_store.evaluation}
        assert {row.run_id for row in found.energy.rows} == behind
        assert (found.selection.runs_selected, found.selection.runs_read) == (4, 4)
        assert found == audited(uri, "auto", Query(models=(name,)))


def test_a_model_that_does_not_exist_is_told_with_names_like_it(
    sqlite_store: Seeded, server: str
) -> None:
    for uri, engine in ((sqlite_store.uri, "auto"), (sqlite_store.uri, "plain"), (server, "auto")):
        for name, hint in (("crdit", r"Did you mean 'credit'"), ("no/such:one", "$"), ("", "$")):
            expected = rf"there is no registered model {name!r}\. ?{hint}"
            with pytest.raises(StoreError, match=expected):
                audited(uri, engine, Query(models=("credit", name)))


def test_a_model_without_a_run_has_nothing_to_audit_alone_and_is_read_beside_runs(
    sqlite_copy: Path,
) -> None:
    uri = f"sqlite:///{sqlite_copy}"
    client = MlflowClient(uri, uri)
    client.create_registered_model("empty")
    client.create_registered_model("bought")
    client.create_model_version("bought", "/elsewhere/model")
    for engine in ("auto", "plain"):
        for name in ("empty", "bought"):
            with pytest.raises(StoreError, match=f"--model '{name}' has no runs"):
                audited(uri, engine, Query(models=(name,)))
    query = Query(models=("bought",), experiments=("credit",))
    assert audited(uri, "columns", query) == audited(uri, "plain", query)
