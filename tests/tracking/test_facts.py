"""Facts, the spool and the record they make: pure parts, and files."""

from __future__ import annotations

import json
import multiprocessing
import os
import re
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlflow_carbon.carbon.intensity import Factor
from mlflow_carbon.energy.ledger import ComponentEnergy, PowerPoint, Progress, RunEnergy
from mlflow_carbon.energy.meter import Component, Method, Unmeasured
from mlflow_carbon.errors import DataError, OutputError
from mlflow_carbon.redact import redacted
from mlflow_carbon.schema import Metric, Tag
from mlflow_carbon.settings import Settings
from mlflow_carbon.tracking import spool
from mlflow_carbon.tracking.desk import Desk
from mlflow_carbon.tracking.facts import (
    Base,
    Exit,
    Facts,
    Origin,
    canonical,
    energy_from_json,
    energy_to_json,
    until,
)
from mlflow_carbon.tracking.record import TAG_LIMIT, build
from mlflow_carbon.tracking.recovery import without
from mlflow_carbon.tracking.sealing import seal
from mlflow_carbon.tracking.session import Session
from mlflow_carbon.tracking.spooled import (
    absolute,
    energy_to_line,
    facts_from_lines,
    facts_to_line,
    progress_to_line,
)
from mlflow_carbon.tracking.summary import page
from mlflow_carbon.units import Range, show_range

FACTOR = Factor(
    g_per_kwh=Range(40.0, 50.0, 80.0),
    region="FR",
    region_name="France",
    region_source="setting",
    region_reason="set to 'FR'",
    source="a source",
    title="source",
    source_id="source",
    year=2025,
    license="CC-BY-4.0",
    basis="lifecycle",
)


def component(joules: float, coverage: float = 1.0) -> ComponentEnergy:
    return ComponentEnergy(
        component=Component.CPU,
        method=Method.COUNTER,
        attributed_j=Range(joules * 0.9, joules, joules * 1.1),
        boundary_j=Range(joules, joules * 2, joules * 3),
        coverage=coverage,
        largest_gap_s=1.0,
        readings=10,
        meters=("RAPL package 0",),
    )


def energy(joules: float = 3600.0, duration_s: float = 10.0, coverage: float = 1.0) -> RunEnergy:
    return RunEnergy(
        duration_s=duration_s,
        components=(component(joules, coverage),),
        unmeasured=(Unmeasured(Component.GPU, "no driver"), Unmeasured(Component.GPU, "lost")),
        power=tuple(
            PowerPoint(at_s=duration_s * i / 5, power_w=joules / duration_s) for i in range(1, 6)
        ),
    )


def facts(**changes: object) -> Facts:
    values: dict[str, object] = {
        "run_id": "a" * 32,
        "tracking_uri": "sqlite:///x.db",
        "origin": Origin.CREATED,
        "opened_at": "2026-01-01T00:00:00.000+00:00",
        "process_id": 1,
        "energy": energy(),
        "exit": Exit.FINISHED,
        "ended_at": "2026-01-01T00:00:10.000+00:00",
    }
    return Facts(**(values | changes))  # type: ignore[arg-type]


SECONDS = st.floats(0.001, 1e6)
POWERS = st.lists(st.tuples(st.floats(0.01, 1000), st.floats(0, 1e4)), min_size=0, max_size=20)


@st.composite
def accounts(draw: st.DrawFn) -> RunEnergy:
    steps = draw(POWERS)
    at, points = 0.0, []
    for step, power_w in steps:
        at += step
        points.append(PowerPoint(at_s=at, power_w=power_w))
    duration_s = at + draw(SECONDS)
    whole = energy(draw(st.floats(0.001, 1e9)), duration_s)
    spent_s = draw(st.none() | SECONDS)
    return replace(whole, power=tuple(points), measuring_cpu_s=spent_s)


@given(accounts())
def test_an_account_survives_its_way_through_json(account: RunEnergy) -> None:
    assert energy_from_json(json.loads(json.dumps(energy_to_json(account)))) == account


@given(accounts(), st.floats(0, 1), st.floats(0, 1))
def test_a_part_of_an_account_grows_with_its_time_and_never_exceeds_the_whole(
    account: RunEnergy, first: float, second: float
) -> None:
    early, late = sorted((first * account.duration_s, second * account.duration_s))
    whole = account.attributed_j
    less, more = until(account, early).attributed_j, until(account, late).attributed_j
    assert whole is not None
    assert less is not None
    assert more is not None
    assert less.mid <= more.mid * (1 + 1e-9)
    assert more.mid <= whole.mid * (1 + 1e-9)
    assert until(account, account.duration_s) == account


def test_idle_time_after_the_last_log_call_is_not_the_runs() -> None:
    busy_then_idle = RunEnergy(
        duration_s=20.0,
        components=(component(1000.0),),
        unmeasured=(),
        power=(PowerPoint(at_s=10.0, power_w=90.0), PowerPoint(at_s=20.0, power_w=10.0)),
    )
    part = until(busy_then_idle, 10.0)
    assert part.attributed_j is not None
    assert part.attributed_j.mid == pytest.approx(900.0)
    assert part.duration_s == 10.0


def test_a_spool_tells_the_latest_facts_with_the_whole_power_series(tmp_path: Path) -> None:
    file = spool.claim(tmp_path, "run")
    first = energy(10.0, 5.0)
    file.append(facts_to_line(facts(energy=first, exit=None), power_after_s=-1.0), now_s=0.0)
    points = (*first.power, PowerPoint(at_s=9.0, power_w=7.0))
    later = replace(energy(20.0, 9.0), power=points)
    file.append(facts_to_line(facts(energy=later), power_after_s=5.0), now_s=1.0)
    assert facts_from_lines(file.lines()) == facts(energy=later)


def test_a_later_account_alone_is_a_short_line_over_the_facts_before(tmp_path: Path) -> None:
    file = spool.claim(tmp_path, "run")
    file.append(facts_to_line(facts(exit=None), power_after_s=-1.0), now_s=0.0)
    later = replace(
        energy(7200.0, 20.0), power=(*energy().power, PowerPoint(at_s=20.0, power_w=1.0))
    )
    file.append(energy_to_line(later, power_after_s=10.0), now_s=1.0)
    assert facts_from_lines(file.lines()) == facts(exit=None, energy=later)


def progress(after_s: float, joules: float) -> Progress:
    figures = [joules * 0.5, joules, joules * 2, joules, joules * 2, joules * 3]
    return Progress(
        after_s=after_s, duration_s=23.0, covered_s=3.0, added_j={Component.CPU: figures}
    )


def test_what_came_to_the_last_account_is_part_of_what_a_spool_tells(tmp_path: Path) -> None:
    file = spool.claim(tmp_path, "run")
    file.append(
        facts_to_line(facts(exit=None, energy=energy(10.0, 20.0)), power_after_s=-1.0), now_s=0.0
    )
    for joules in (10.0, 20.0, 30.0):
        file.append(progress_to_line(progress(20.0, joules)), now_s=1.0)
    told = facts_from_lines(file.lines()).energy
    before = energy(10.0, 20.0)
    assert told is not None
    assert told.duration_s == 23.0
    assert told.attributed_j is not None
    assert before.attributed_j is not None
    assert told.attributed_j == before.attributed_j + Range(15.0, 30.0, 60.0)
    assert told.coverage == pytest.approx((before.coverage * 20.0 + 3.0) / 23.0)


def test_what_came_to_an_account_that_is_not_the_last_counts_for_nothing(tmp_path: Path) -> None:
    file = spool.claim(tmp_path, "run")
    file.append(facts_to_line(facts(exit=None), power_after_s=-1.0), now_s=0.0)
    file.append(progress_to_line(progress(1.0, 10.0)), now_s=1.0)
    assert facts_from_lines(file.lines()) == facts(exit=None)


def test_a_torn_last_line_does_not_take_the_others_with_it(tmp_path: Path) -> None:
    file = spool.claim(tmp_path, "run")
    file.append(facts_to_line(facts(), power_after_s=-1.0), now_s=0.0)
    with file.path.open("ab") as torn:
        torn.write(b'{"version":1,"facts":{"run_id":"a')
    assert facts_from_lines(file.lines()) == facts()


@pytest.mark.parametrize(
    "line",
    [{"version": 99, "facts": {}}, {"version": 1, "facts": {}}, {"version": 1, "energy": {}}, {}],
)
def test_a_spool_that_cannot_be_read_says_so(line: dict[str, object]) -> None:
    with pytest.raises(DataError, match="spool"):
        facts_from_lines([line])


def claimed(folder: str, answers: multiprocessing.Queue[str]) -> None:
    try:
        spool.claim(Path(folder), "run")
    except spool.BusyError:
        answers.put("busy")
    else:
        answers.put("claimed")


def test_a_second_process_cannot_claim_a_run_that_is_being_measured(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    answers = context.Queue()
    held = spool.claim(tmp_path, "run")
    for expected in ("busy", "claimed"):
        other = context.Process(target=claimed, args=(str(tmp_path), answers))
        other.start()
        assert answers.get(timeout=60) == expected
        other.join()
        held.remove()


def test_a_spool_file_starts_over_before_it_grows_without_end(tmp_path: Path) -> None:
    file = spool.claim(tmp_path, "run")
    file.append({"filler": "x" * spool.SIZE_LIMIT_BYTES}, now_s=0.0)
    assert file.full
    file.restart(facts_to_line(facts(), power_after_s=-1.0), now_s=1.0)
    assert not file.full
    assert facts_from_lines(file.lines()) == facts()


@pytest.mark.parametrize("run_id", ["../../etc/passwd", "a/b", "x" * 300, "ü\x00", ""])
def test_a_run_id_never_leads_out_of_the_spool_folder(tmp_path: Path, run_id: str) -> None:
    file = spool.claim(tmp_path, run_id)
    assert file.path.parent == tmp_path
    file.remove()


def test_a_link_put_in_place_of_a_spool_file_is_not_followed(tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.write_text("keep me")
    (tmp_path / spool.file_name("run")).symlink_to(target)
    with pytest.raises(OSError, match="symbolic"):
        spool.claim(tmp_path, "run")
    assert target.read_text() == "keep me"


def test_without_a_folder_for_the_spool_the_error_names_what_was_tried(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blocked = tmp_path / "file"
    blocked.touch()
    monkeypatch.setattr("tempfile.tempdir", str(blocked))
    with pytest.raises(OutputError, match="MLFLOW_CARBON_SPOOL_DIR") as refused:
        spool.folder(blocked / "spool")
    assert str(blocked) in str(refused.value)


def test_passwords_do_not_reach_the_spool() -> None:
    uri = "postgresql://user:s3cret@host:5432/db"
    line = facts_to_line(facts(tracking_uri=uri), power_after_s=-1.0)
    assert "s3cret" not in json.dumps(line)
    assert redacted("https://mlflow.example.org") == "https://mlflow.example.org"
    assert "s3cret" not in redacted("http://u:s3c/ret@host")
    assert "s3cret" not in redacted("postgresql://host/db?user=u&password=s3cret")


@pytest.mark.parametrize(
    ("uri", "kept"),
    [
        ("sqlite:///mlflow.db", "sqlite:////work/mlflow.db"),
        ("sqlite+pysqlite:///a/b.db?timeout=3", "sqlite+pysqlite:////work/a/b.db?timeout=3"),
        ("sqlite:////abs/mlflow.db", "sqlite:////abs/mlflow.db"),
        ("sqlite://", "sqlite://"),
        ("sqlite:///:memory:", "sqlite:///:memory:"),
        ("mlruns", "/work/mlruns"),
        ("/abs/mlruns", "/abs/mlruns"),
        ("file:///abs/mlruns", "file:///abs/mlruns"),
        ("https://mlflow.example.org", "https://mlflow.example.org"),
        ("databricks", "databricks"),
        ("", ""),
    ],
)
def test_an_address_is_kept_so_that_it_means_the_same_from_any_folder(uri: str, kept: str) -> None:
    assert absolute(uri, "/work") == kept


def test_energy_of_zero_is_not_a_figure() -> None:
    record = build(facts(energy=energy(0.0)), Base(), FACTOR, Settings())
    assert record.metrics.keys() == {Metric.DURATION_S, Metric.COVERAGE}
    assert record.tags[Tag.STATUS] == "not-measured"
    assert Tag.FACTOR not in record.tags


@given(
    joules=st.just(0.0) | st.floats(1e-9, 1e9),
    coverage=st.floats(0.0, 1.0),
    unseen_s=st.floats(0.0, 1e5),
    parent=st.booleans(),
)
def test_whatever_was_measured_the_record_is_small_ordered_and_never_says_zero(
    joules: float, coverage: float, unseen_s: float, parent: bool
) -> None:
    said = facts(energy=energy(joules, coverage=coverage), unseen_s=unseen_s, parent=parent)
    record = build(said, Base(), FACTOR, Settings())
    assert 0.0 <= record.metrics[Metric.COVERAGE] <= 1.0
    if Metric.ENERGY_KWH in record.metrics:
        low, mid, high = (
            record.metrics[name]
            for name in (Metric.ENERGY_KWH_LOW, Metric.ENERGY_KWH, Metric.ENERGY_KWH_HIGH)
        )
        assert 0 < low <= mid <= high
    else:
        assert record.tags[Tag.STATUS] == "not-measured"
    assert (record.tags.get(Tag.TREE) == "inclusive") is parent


@pytest.mark.parametrize("exit_", [None, Exit.FINISHED])
def test_a_push_has_at_most_15_metrics_with_everything_known_and_declared(
    exit_: Exit | None,
) -> None:
    parts = tuple(
        replace(component(1.0), component=which)
        for which in (Component.GPU, Component.CPU, Component.DRAM)
    )
    all_known = replace(energy(), components=parts, measuring_cpu_s=0.5)
    contract = Settings(contract="a contract", contract_g_per_kwh=10.0)
    record = build(facts(energy=all_known, exit=exit_), Base(), FACTOR, contract)
    assert len(record.metrics) == (15 if exit_ else 14)  # and the power, while the run goes on


def test_what_measuring_costs_is_on_the_run_at_its_end_and_adds_up_over_sessions() -> None:
    spent = replace(energy(), measuring_cpu_s=0.25)
    first = build(facts(energy=spent), Base(), FACTOR, Settings()).metrics
    goes_on = build(facts(energy=spent, exit=None), Base(metrics=first), FACTOR, Settings())
    second = build(facts(energy=spent), Base(metrics=first), FACTOR, Settings()).metrics
    assert first[Metric.MEASURING_CPU_S] == 0.25
    assert Metric.MEASURING_CPU_S not in goes_on.metrics
    assert second[Metric.MEASURING_CPU_S] == 0.5
    base = Base(metrics=first)
    rest = without(Base(metrics=second), base, goes_on.metrics).metrics
    assert (
        rest[Metric.MEASURING_CPU_S] == 0.5
    )  # a session that was killed had not put its part there
    assert Metric.MEASURING_CPU_S not in build(facts(), Base(), FACTOR, Settings()).metrics


def test_two_sessions_of_a_run_add_up() -> None:
    first = build(facts(), Base(), FACTOR, Settings())
    base = Base(metrics=dict(first.metrics), step=3)
    second = build(facts(energy=energy(coverage=0.5)), base, FACTOR, Settings())
    assert second.metrics[Metric.ENERGY_KWH] == pytest.approx(0.002)
    assert second.metrics[Metric.DURATION_S] == 20.0
    assert second.metrics[Metric.COVERAGE] == pytest.approx(0.75)
    assert second.tags[Tag.STATUS] == "partial"
    assert second.step == 4


def test_what_one_session_had_published_can_be_taken_off_a_run_again() -> None:
    first = build(facts(), Base(), FACTOR, Settings()).metrics
    later = facts(energy=energy(1800.0, 5.0, 0.8))
    both = build(later, Base(metrics=first), FACTOR, Settings()).metrics
    rest = without(Base(metrics=both), Base(), first).metrics
    alone = build(later, Base(), FACTOR, Settings()).metrics
    for name in (Metric.ENERGY_KWH, Metric.EMISSIONS_KG, Metric.DURATION_S, Metric.COVERAGE):
        assert rest[name] == pytest.approx(alone[name]), name


def test_a_thousand_datasets_still_fit_a_tag_and_the_rest_is_counted() -> None:
    many = [{"name": f"data-{i}", "digest": "d" * 8, "context": "training"} for i in range(1000)]
    tags = build(facts(datasets=many), Base(), FACTOR, Settings()).tags
    assert len(tags[Tag.DATASETS]) <= TAG_LIMIT
    listed = json.loads(tags[Tag.DATASETS])
    assert listed[-1]["more"] + len(listed) - 1 == 1000


def test_one_content_under_two_names_in_two_roles_is_a_conflict() -> None:
    same = {"digest": "d", "sha256": "f" * 64}
    both = [
        {"name": "train.csv", "context": "training", **same},
        {"name": "test.csv", "context": "testing", **same},
    ]
    assert json.loads(
        build(facts(datasets=both), Base(), FACTOR, Settings()).tags[Tag.DATA_CONFLICT]
    ) == ["train.csv"]
    assert Tag.DATA_CONFLICT not in build(facts(datasets=both[:1]), Base(), FACTOR, Settings()).tags


def test_what_canonical_json_has_no_form_for_is_sealed_as_text() -> None:
    odd = {"nan": float("nan"), "big": 2**60, "list": [float("inf"), True, None]}
    assert canonical(odd) == {"nan": "nan", "big": str(2**60), "list": ["inf", True, None]}


def hostile_document(name: str) -> tuple[dict[str, object], str]:
    said = facts(troubles=[name])
    record = build(said, Base(), FACTOR, Settings())
    run = {"tags": {"mlflow.runName": name}}
    sealed = seal(said, Base(), record, FACTOR, run)
    return json.loads(sealed.document), sealed.sha256


@pytest.mark.parametrize(
    "name",
    ["<script>alert(1)</script>", '"><img src=x onerror=y>', "$name ${x} %s {0}", "\u202eabc\x00"],
)
def test_the_summary_shows_hostile_names_as_text(name: str) -> None:
    document, sha256 = hostile_document(name)
    declared = {"license": {"value": name, "declared_by": name}}
    datasets = [{"name": name, "digest": "d", "context": name, "declared": declared, "rows": 3}]
    html = page(document, sha256, "mlflow_carbon/evidence.json", datasets)
    assert "<script" not in html
    assert "<img" not in html
    assert "http" not in html.replace("http-equiv", "")
    assert "1 Wh" in html
    assert "no driver" in html
    assert sha256 in html


def test_the_summary_names_parts_in_words_and_tells_a_unit_that_bounds_share_once() -> None:
    document, sha256 = hostile_document("a run")
    html = page(document, sha256, "mlflow_carbon/evidence.json")
    assert "<th>CPU</th>" in html
    assert "<th>GPU</th>" in html
    assert ">cpu<" not in html
    assert html.count("CO2e</small>") == 1
    assert re.search(r"<small>[\d.]+ to [\d.]+ mg CO2e</small>", html)
    assert show_range("800 mg CO2e", "1.2 g CO2e") == "800 mg to 1.2 g CO2e"
    assert show_range("0.8 Wh", "1.2 kWh") == "0.8 Wh to 1.2 kWh"


def test_the_summary_of_a_run_that_was_not_measured_shows_no_figure() -> None:
    said = facts(energy=None, troubles=["could not read the meters: OSError"])
    record = build(said, Base(), FACTOR, Settings())
    sealed = seal(said, Base(), record, FACTOR, {"tags": {}})
    html = page(json.loads(sealed.document), sealed.sha256, sealed.path)
    assert "This run was not measured." in html
    assert "could not read the meters" in html
    assert "Wh" not in html.partition("How to read")[0]
    assert os.linesep in html


def test_what_another_thread_has_overtaken_does_not_take_an_account_out_of_the_spool(
    tmp_path: Path,
) -> None:
    now = datetime(2026, 11, 27, tzinfo=timezone.utc)
    session = Session("r" * 32, None, Origin.CREATED, Desk(Settings()), opened=(0, now))
    session.spool = spool.claim(tmp_path, session.run_id)
    session.spool_facts(session.facts(energy(2.0, 2.0)), now_s=2.0)
    session.spool_facts(session.facts(energy(1.0, 1.0)), now_s=2.1)
    session.spool_facts(session.facts(None), now_s=2.2)
    kept = facts_from_lines(session.spool.lines()).energy
    assert kept is not None
    assert kept.duration_s == 2.0
    session.discard()
