"""The energy account over columns puts each run where the account run by run does, whatever the parents."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import duckdb
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mlflow_carbon.audit.totals import FACTS, Totals
from mlflow_carbon.evidence.facts import PARENT_TAG, run_evidence
from mlflow_carbon.evidence.rows import read_runs
from mlflow_carbon.evidence.sql import Database
from mlflow_carbon.evidence.tables import Selected, load
from mlflow_carbon.evidence.trees import count_once, node_of
from mlflow_carbon.schema import Metric, Tag
from tests.audit.test_matrix import NOW, write

START_MS = 1_000_000


def run(
    parent: int | None, kwh: float | None, start_s: int, end_s: int | None, inclusive: bool
) -> dict[str, Any]:
    tags = {Tag.TREE: "inclusive"} if inclusive else {}
    if parent is not None:
        tags[PARENT_TAG] = f"{parent:032x}"
    return {
        "name": "",
        "status": "FINISHED",
        "start": START_MS + start_s * 1000,
        "end": None if end_s is None else START_MS + end_s * 1000,
        "metrics": {} if kwh is None else {Metric.ENERGY_KWH: kwh},
        "params": {},
        "tags": tags,
        "cards": {},
        "inputs": [],
    }


def places(runs: list[dict[str, Any]]) -> tuple[dict[str, str], dict[str, str]]:
    """Of each run, by columns and run by run."""
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder) / "mlflow.db", runs)
        source = Database(f"sqlite:///{folder}/mlflow.db")
        con = duckdb.connect()
        Totals(load(con, source, Selected({"7": "credit"}), FACTS, NOW)).prepare()
        query = "SELECT run_uuid, place FROM place JOIN run USING (rid)"
        found = dict(con.execute(query).fetchall())
        con.close()
        ids = [f"{number:032x}" for number in range(len(runs))]
        read = {one.info.run_id: one for one in read_runs(source, ids)}
        # The order of the columns decides where a circle of parents is cut open.
        order = sorted(read, key=lambda run_id: (read[run_id].info.start_time, run_id))
        groups = count_once({one: node_of(run_evidence(read[one], "credit")) for one in order})
        source.close()
    wanted = dict.fromkeys(groups.counted, "counted") | dict.fromkeys(groups.inside, "inside")
    return found, wanted | dict.fromkeys(groups.unmeasured, "unmeasured")


RUNS = st.lists(
    st.builds(
        run,
        st.none() | st.integers(0, 9),
        st.none() | st.sampled_from([0.0, 0.1, 0.2, 0.3, 0.6, 1.0]),
        st.integers(0, 20),
        st.none() | st.integers(15, 40),
        st.booleans() | st.just(True),
    ),
    min_size=1,
    max_size=10,
)


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(RUNS)
def test_each_run_is_where_it_is_run_by_run(runs: list[dict[str, Any]]) -> None:
    found, wanted = places(runs)
    assert found == wanted


def test_children_that_make_up_all_of_their_parent_are_inside_it() -> None:
    """0.1 + 0.2 + 0.3 is more than 0.6 in floating point."""
    found, wanted = places(
        [run(None, 0.6, 0, 9, True), *(run(0, kwh, 0, 9, True) for kwh in (0.1, 0.2, 0.3))]
    )
    assert list(found.values()).count("inside") == 3
    assert found == wanted


def test_a_chain_of_two_thousand_runs_is_gone_down_to_its_end() -> None:
    found, wanted = places([run(i - 1 if i else None, 1.0, 0, 9, True) for i in range(2_000)])
    assert list(found.values()).count("inside") == 1_999
    assert found == wanted
