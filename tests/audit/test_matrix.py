"""Both engines give the same answers: random rules over random runs, by columns and by the oracle."""

from __future__ import annotations

import re
import sqlite3
import tempfile
from collections.abc import Sequence
from contextlib import closing
from datetime import date, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import duckdb
import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mlflow_carbon.audit.assess import assess_subject
from mlflow_carbon.audit.matrix import decoded, facts_needed, judge
from mlflow_carbon.errors import Location
from mlflow_carbon.evidence.facts import run_evidence
from mlflow_carbon.evidence.keys import MAX_KEYS
from mlflow_carbon.evidence.model import Evidence, SubjectKind
from mlflow_carbon.evidence.rows import read_runs
from mlflow_carbon.evidence.sql import Database
from mlflow_carbon.evidence.store import has_ended, with_other_digests
from mlflow_carbon.evidence.tables import Selected, load
from mlflow_carbon.policy.compile import NotInColumnsError
from mlflow_carbon.policy.model import (
    All,
    AnyOf,
    Compare,
    Condition,
    FactTerm,
    ForEach,
    Near,
    Not,
    OnMissing,
    Pack,
    Severity,
    State,
    Waiver,
)
from mlflow_carbon.policy.operators import OPERATORS
from mlflow_carbon.schema import InputTag, Tag
from tests.audit.test_assess import pack, rule

AT = Location("pack.yaml", 1, 1)
NOW = datetime(2026, 11, 23, 12, tzinfo=timezone.utc)
NOW_MS = int(NOW.timestamp() * 1000)

TABLES = """
CREATE TABLE runs (run_uuid TEXT, name TEXT, user_id TEXT, status TEXT, start_time BIGINT,
    end_time BIGINT, lifecycle_stage TEXT, experiment_id INTEGER);
CREATE TABLE latest_metrics (key TEXT, value FLOAT, timestamp BIGINT, step BIGINT, is_nan BOOLEAN, run_uuid TEXT);
CREATE TABLE params (key TEXT, value TEXT, run_uuid TEXT);
CREATE TABLE tags (key TEXT, value TEXT, run_uuid TEXT);
CREATE TABLE datasets (dataset_uuid TEXT, name TEXT, digest TEXT, dataset_source_type TEXT, dataset_source TEXT);
CREATE TABLE inputs (input_uuid TEXT, source_type TEXT, source_id TEXT, destination_type TEXT, destination_id TEXT);
CREATE TABLE input_tags (input_uuid TEXT, name TEXT, value TEXT);
"""

TEXTS = st.sampled_from(
    ["", " ", "\u2003", "x", "X", "MIT", "MIT OR Apache-2.0", "true", "False", "5", " 5.0 ", "1e3", "1_000", "nan",
     "inf", "-0", "٣", "2026-11-20", "2026-11-20T10:00:00Z", "2027-01-01", "it's \"quoted\" \\ é", "a" * 40]
)  # fmt: skip
NUMBERS = st.one_of(
    st.sampled_from(
        [0.0, -0.0, 5.0, 1.0, 1.7976931348623157e308, -1.7976931348623157e308, 1e300, 2.5]
    ),
    st.floats(allow_nan=True, allow_infinity=False),
)
METRICS, PARAMS, TAGS = ("m", "a/b c.d"), ("p", "o'q"), ("t", "u")
SHAS = st.sampled_from(["", "a" * 64, "b" * 64, "c" * 64])
INPUT_TAGS = (InputTag.LICENSE, InputTag.ROWS, InputTag.ORIGIN, InputTag.HASH_SCOPE)
TIMES = st.none() | st.sampled_from([0, NOW_MS - 86_400_000 * 3, NOW_MS - 1, NOW_MS])

ONE_RUN = st.fixed_dictionaries(
    {
        "name": st.sampled_from(["", "first"]),
        "status": st.sampled_from(["FINISHED", "FAILED", "RUNNING"]),
        "start": st.sampled_from([0, NOW_MS - 1, NOW_MS]),
        "end": TIMES,
        "metrics": st.dictionaries(st.sampled_from(METRICS), NUMBERS),
        "params": st.dictionaries(st.sampled_from(PARAMS), TEXTS),
        "tags": st.dictionaries(st.sampled_from((*TAGS, Tag.EXIT, "mlflow.user")), TEXTS),
        "cards": st.dictionaries(
            st.sampled_from(["a" * 16, "b" * 16]),
            st.sampled_from(["{", "[]", '{"license": "MIT", "origin": ""}', '{"origin": "web", "sha256": "x"}']),
        ),
        "inputs": st.lists(
            st.tuples(
                st.sampled_from(["loans", "dataset"]),
                st.sampled_from(["", "training", "testing"]),
                SHAS,
                st.dictionaries(st.sampled_from(INPUT_TAGS), TEXTS),
            ),
            max_size=3,
        ),
    }
)  # fmt: skip

RUN_FACTS = [
    *(f"metric.{key}" for key in METRICS), *(f"param.{key}" for key in PARAMS), *(f"tag.{key}" for key in TAGS),
    "run.name", "run.status", "run.user", "run.start_time", "run.end_time", "run.duration_s", "run.datasets",
    "run.dataset_contexts", "run.experiment", "run.id", "run.source_commit",
]  # fmt: skip
DATASET_FACTS = [
    "dataset.name", "dataset.context", "dataset.sha256", "dataset.license", "dataset.rows", "dataset.origin",
    "dataset.hash_scope", "dataset.other_digests", "dataset.source_type",
]  # fmt: skip
CONSTANTS = st.one_of(
    TEXTS, st.floats(-10, 2000), st.integers(-3, 10), st.booleans(), st.just(2**60)
)
ITEMS = st.lists(CONSTANTS, min_size=1, max_size=4).map(tuple)


@st.composite
def leaves(draw: Any, facts: Sequence[str]) -> Compare:
    """Any operator on any fact with an operand it takes, whether or not a loader would let it through."""
    operator = draw(st.sampled_from(sorted(OPERATORS)))
    fact = draw(st.sampled_from(facts))
    term = st.builds(
        FactTerm, st.sampled_from(facts), st.sampled_from([1.0, 1e300, 0.0, -2.0]), st.floats(-5, 5)
    )
    number = st.floats(-10, 2000) | st.integers(-3, 10)
    operands: dict[str, st.SearchStrategy[Any]] = {
        "between": st.tuples(st.floats(-10, 5), st.floats(5, 100)),
        "within_percent_of": st.builds(Near, st.floats(0, 100), number.map(float) | term),
        "matches": st.sampled_from(["^M", "[0-9]+$", "(?i)x", "é"]),
        "newer_than": st.sampled_from([0, 1, 3.0, 0.5, 40000]),
        "equals": CONSTANTS | term,
        "not_equals": CONSTANTS | term,
    }
    for name in ("at_most", "at_least", "less_than", "more_than"):
        operands[name] = number | term
    for name in ("one_of", "none_of"):
        operands[name] = ITEMS
    for name in ("includes_any", "no_overlap_with"):
        operands[name] = st.just(("training", "b" * 64))
    operands["avoids_licenses"] = st.sampled_from([("mit",), ("Apache-2.0", "MIT")])
    operand = draw(operands.get(operator, st.just(True)))
    return Compare(fact=fact, operator=operator, operand=operand, at=AT)


PATTERNS = st.sampled_from(["", "^m$", "[/']", "(?i)P", "^mlflow", "nothing has this"])


def of_keys(facts: Sequence[str]) -> st.SearchStrategy[Condition]:
    """What each metric, param or tag must be whose key matches."""

    def each(members: str, value: str) -> st.SearchStrategy[Condition]:
        inner = conditions([value, value, "each.name", "each.baseline", *facts], members=False)
        return st.builds(
            lambda c, w, p: ForEach(members, c, AT, where=w, pattern=p),
            inner,
            st.none() | inner,
            PATTERNS,
        )

    return st.one_of(
        each("metrics", "each.value"), each("params", "each.text"), each("tags", "each.text")
    )


def conditions(facts: Sequence[str], members: bool) -> st.SearchStrategy[Condition]:
    leaf = leaves(facts)
    if members:
        inner = conditions([*RUN_FACTS, *DATASET_FACTS], members=False)
        each = st.builds(lambda c, w: ForEach("datasets", c, AT, where=w), inner, st.none() | inner)
        leaf = st.one_of(leaf, leaf, leaf, leaf, each, each, of_keys(RUN_FACTS))

    def grown(parts: st.SearchStrategy[Condition]) -> st.SearchStrategy[Condition]:
        some = st.lists(parts, min_size=1, max_size=3).map(tuple)
        return st.one_of(
            some.map(lambda p: All(p, AT)),
            some.map(lambda p: AnyOf(p, AT)),
            parts.map(lambda p: Not(p, AT)),
        )

    return st.recursive(leaf, grown, max_leaves=4)


def rules(scope: SubjectKind) -> st.SearchStrategy[Any]:
    facts = RUN_FACTS if scope is SubjectKind.RUN else [*RUN_FACTS, *DATASET_FACTS]
    tree = conditions(facts, members=scope is SubjectKind.RUN)

    def built(condition: Condition, when: Condition | None, missing: OnMissing, number: int) -> Any:
        made = rule(f"R-{number}", condition, scope, Severity.HIGH)
        return type(made)(**{**_fields(made), "when": when, "on_missing": missing})

    return st.builds(built, tree, st.none() | tree, st.sampled_from(OnMissing), st.integers(0, 3))


def _fields(made: Any) -> dict[str, Any]:
    return {name: getattr(made, name) for name in made.__dataclass_fields__}


WAIVERS = st.lists(
    st.builds(
        lambda number, match, days: Waiver(
            id=f"W-{number}", rules=(f"R-{number}",), match=match, reason="r", requested_by="a",
            approved_by="b", approved_on=date(2026, 1, 1), expires=NOW.date() + timedelta(days=days),
            ticket="", at=AT,
        ),
        st.integers(0, 3),
        st.none() | leaves(RUN_FACTS),
        st.sampled_from([-1, 0, 30]),
    ),
    max_size=2,
)  # fmt: skip
PACKS = st.builds(
    lambda a, b, waivers: pack(*a, *b, waivers=tuple(waivers)),
    st.lists(rules(SubjectKind.RUN), min_size=1, max_size=3),
    st.lists(rules(SubjectKind.DATASET_INPUT), min_size=1, max_size=3),
    WAIVERS,
)


def write(path: Path, runs: Sequence[dict[str, Any]]) -> None:
    connection = sqlite3.connect(path)
    connection.executescript(TABLES)
    for i, one in enumerate(runs):
        run_id = f"{i:032x}"
        connection.execute(
            "INSERT INTO runs VALUES (?, ?, '', ?, ?, ?, 'active', 7)",
            (run_id, one["name"], one["status"], one["start"], one["end"]),
        )
        for key, value in one["metrics"].items():
            nan = value != value
            row = (key, 0.0 if nan else value, 0, 0, nan, run_id)
            connection.execute("INSERT INTO latest_metrics VALUES (?, ?, ?, ?, ?, ?)", row)
        for key, value in one["params"].items():
            connection.execute("INSERT INTO params VALUES (?, ?, ?)", (key, value, run_id))
        cards = {Tag.CARD_PREFIX + key: value for key, value in one["cards"].items()}
        for key, value in {**one["tags"], **cards}.items():
            connection.execute("INSERT INTO tags VALUES (?, ?, ?)", (key, value, run_id))
        for j, (name, context, sha256, tags) in enumerate(one["inputs"]):
            _write_input(connection, f"{i}-{j}", run_id, name, {**tags, InputTag.CONTEXT: context, InputTag.SHA256: sha256})  # fmt: skip
    connection.commit()
    connection.close()


def _write_input(
    connection: sqlite3.Connection, key: str, run_id: str, name: str, tags: dict[str, str]
) -> None:
    row = (f"d{key}", name, f"g{key}", "local", "{}")
    connection.execute("INSERT INTO datasets VALUES (?, ?, ?, ?, ?)", row)
    connection.execute(
        "INSERT INTO inputs VALUES (?, 'DATASET', ?, 'RUN', ?)", (f"i{key}", f"d{key}", run_id)
    )
    for tag, value in tags.items():
        connection.execute("INSERT INTO input_tags VALUES (?, ?, ?)", (f"i{key}", tag, value))


def by_columns(source: Database, one: Pack) -> dict[tuple[int, str], tuple[State, str]]:
    con = duckdb.connect()
    tables = load(con, source, Selected({"7": "credit"}), facts_needed([one]), NOW)
    answers = {}
    for i, cell in enumerate(judge(tables, [one], NOW)):
        subject = (
            "run_uuid"
            if cell.table == "run"
            else ("run_uuid || '/' || raw_name || '/' || raw_digest || '/' || raw_context")
        )
        joined = (
            "run USING (rid)" if cell.table == "run" else "run USING (rid) JOIN used USING (uid)"
        )
        rows = con.execute(f"SELECT {subject}, {cell.name} FROM {cell.table}_answer JOIN {joined}")
        for key, code in rows.fetchall():
            answers[i, key] = decoded(code, one)
    con.close()
    return answers


def by_oracle(source: Database, one: Pack, count: int) -> dict[tuple[int, str], tuple[State, str]]:
    runs = [
        run_evidence(run, "credit")
        for run in read_runs(source, [f"{i:032x}" for i in range(count)])
    ]
    begun = [run for run in runs if has_ended(run, NOW)]
    subjects: list[Evidence] = []
    for run in with_other_digests(begun):
        subjects += [run, *run.members["datasets"]]
    numbers = {id(r): i for i, r in enumerate(one.rules)}
    answers = {}
    for subject in subjects:
        for each in (r for r in one.rules if r.scope is subject.subject.kind):
            single = pack(each, waivers=one.waivers)
            (finding,) = assess_subject(single, subject, NOW)
            answers[numbers[id(each)], subject.subject.key] = (finding.state, finding.waiver)
    return answers


@settings(max_examples=50, deadline=None, suppress_health_check=list(HealthCheck))
@given(runs=st.lists(ONE_RUN, min_size=1, max_size=6), one=PACKS)
def test_both_engines_give_the_same_answers(runs: list[dict[str, Any]], one: Pack) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "mlflow.db"
        write(path, runs)
        source = Database(f"sqlite:///{path}")
        try:
            assert by_columns(source, one) == by_oracle(source, one, len(runs))
        finally:
            source.close()


@settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck))
@given(runs=st.lists(ONE_RUN, min_size=1, max_size=6), one=PACKS)
def test_postgresql_gives_the_answers_the_oracle_gives_on_sqlite(
    postgres_uri: str, runs: list[dict[str, Any]], one: Pack
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "mlflow.db"
        write(path, runs)
        copy_to_postgresql(path, postgres_uri)
        original, copy = Database(f"sqlite:///{path}"), Database(postgres_uri)
        try:
            assert by_columns(copy, one) == by_oracle(original, one, len(runs))
        finally:
            original.close()
            copy.close()


def copy_to_postgresql(path: Path, uri: str) -> None:
    with closing(sqlite3.connect(path)) as source, psycopg.connect(uri) as target:
        target.execute(TABLES.replace("CREATE TABLE", "CREATE TABLE IF NOT EXISTS"))
        for table in re.findall(r"CREATE TABLE (\w+)", TABLES):
            target.execute(f"TRUNCATE {table}")
            rows = source.execute(f"SELECT * FROM {table}")
            columns = [str(column[0]) for column in rows.description]
            holes = ", ".join("%s::int::boolean" if one == "is_nan" else "%s" for one in columns)
            for row in rows:
                target.execute(f"INSERT INTO {table} VALUES ({holes})", row)


def test_a_pattern_that_too_many_keys_match_is_told_before_any_run_is_read(tmp_path: Path) -> None:
    run = {
        "name": "",
        "status": "FINISHED",
        "start": 0,
        "end": 1,
        "params": {},
        "tags": {},
        "cards": {},
        "inputs": [],
    }
    write(
        tmp_path / "mlflow.db", [{**run, "metrics": {f"acc{i}": 1.0 for i in range(MAX_KEYS + 1)}}]
    )
    source = Database(f"sqlite:///{tmp_path / 'mlflow.db'}")
    leaf = Compare(fact="each.value", operator="at_most", operand=1, at=AT)
    one = pack(rule("R-0", ForEach("metrics", leaf, AT, pattern="acc"), SubjectKind.RUN))
    with pytest.raises(
        NotInColumnsError, match="metrics that match 'acc': 201 keys, more than 200"
    ):
        by_columns(source, one)
    source.close()


def test_a_metric_that_is_nan_is_gone_through_too(tmp_path: Path) -> None:
    run = {
        "name": "",
        "status": "FINISHED",
        "start": 0,
        "end": 1,
        "params": {},
        "tags": {},
        "cards": {},
        "inputs": [],
    }
    write(
        tmp_path / "mlflow.db",
        [
            {**run, "metrics": {"acc/a": 0.9, "acc/b": float("nan")}},
            {**run, "metrics": {"acc/a": 0.9}},
            {**run, "metrics": {"acc/a": 0.9, "acc/b": 0.1}},
            {**run, "metrics": {"loss": 0.1}},
        ],
    )
    source = Database(f"sqlite:///{tmp_path / 'mlflow.db'}")
    leaf = Compare(fact="each.value", operator="at_least", operand=0.5, at=AT)
    one = pack(rule("R-0", ForEach("metrics", leaf, AT, pattern="^acc/"), SubjectKind.RUN))
    states = [state for _, (state, _) in sorted(by_columns(source, one).items())]
    assert states == [State.NO_EVIDENCE, State.PASS, State.FAIL, State.NO_EVIDENCE]
    source.close()
