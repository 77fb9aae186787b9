"""Rules on subjects: the states, waivers, order, and what is left out of an audit."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import date, datetime, timezone
from pathlib import Path

import pytest
from mlflow import MlflowClient

from mlflow_carbon.audit.assess import assess_subject
from mlflow_carbon.audit.run import run_audit
from mlflow_carbon.audit.select import AuditRequest
from mlflow_carbon.errors import Location, StoreError
from mlflow_carbon.evidence.model import Evidence, Fact, FactValue, Subject, SubjectKind
from mlflow_carbon.evidence.store import Query
from mlflow_carbon.policy.model import (
    Attest,
    Compare,
    Condition,
    ControlRef,
    OnMissing,
    Pack,
    Relation,
    Rule,
    Severity,
    State,
    Waiver,
)
from mlflow_carbon.schema import RegistryTag
from tests.evidence.conftest import Seeded

NOW = datetime(2026, 11, 23, 12, tzinfo=timezone.utc)
LATER = datetime(2100, 1, 1, tzinfo=timezone.utc)
"""After the models of the seeded stores were made; MLflow takes that time itself."""
AT = Location("pack.yaml", 1, 1)


def at_most(fact: str, limit: float) -> Compare:
    return Compare(fact=fact, operator="at_most", operand=limit, at=AT)


def rule(
    rule_id: str = "ENE-1",
    condition: Condition | None = None,
    scope: SubjectKind = SubjectKind.RUN,
    severity: Severity = Severity.HIGH,
    attest: Attest | None = None,
    baseline_alias: str = "",
) -> Rule:
    return Rule(
        id=rule_id,
        title="Energy stays in budget",
        severity=severity,
        scope=scope,
        rationale="why",
        controls=(ControlRef("nist-ai-rmf", "MEASURE-2.12", Relation.SUPPORTS),),
        when=None,
        condition=condition,
        attest=attest,
        on_missing=OnMissing.NO_EVIDENCE,
        finding="Too much.",
        remediation="Use less.",
        does_not_show="Much.",
        tests=(),
        at=AT,
        baseline_alias=baseline_alias,
    )


def pack(*rules: Rule, waivers: tuple[Waiver, ...] = (), pack_id: str = "p") -> Pack:
    return Pack(
        id=pack_id,
        version="1",
        title="t",
        owner="o",
        describe="d",
        frameworks=(),
        parameters={},
        rules=rules,
        waivers=waivers,
    )


def waiver(match: Condition | None = None, expires: date = date(2026, 12, 31)) -> Waiver:
    return Waiver(
        id="W-1",
        rules=("ENE-1",),
        match=match,
        reason="approved",
        requested_by="a",
        approved_by="b",
        approved_on=date(2026, 10, 1),
        expires=expires,
        ticket="T",
        at=AT,
    )


def evidence(kind: SubjectKind = SubjectKind.RUN, key: str = "r", **facts: FactValue) -> Evidence:
    return Evidence(Subject(kind, key, key), {k: Fact(v, "here") for k, v in facts.items()})


BUDGET = at_most("metric.kwh", 5)
BUDGET_RULE = rule(condition=BUDGET)


def state(one: Pack, subject: Evidence, as_of: datetime = NOW) -> State:
    (finding,) = assess_subject(one, subject, as_of)
    return finding.state


def test_a_value_in_budget_passes_one_beyond_fails_and_none_is_no_evidence() -> None:
    budget = pack(BUDGET_RULE)
    assert state(budget, evidence(**{"metric.kwh": 4.0})) is State.PASS
    assert state(budget, evidence(**{"metric.kwh": 6.0})) is State.FAIL
    assert state(budget, evidence()) is State.NO_EVIDENCE


def test_a_finding_carries_what_a_reader_needs_to_check_it() -> None:
    (finding,) = assess_subject(pack(BUDGET_RULE), evidence(**{"metric.kwh": 6.0}), NOW)
    assert finding.observations[0].observed == "6"
    assert finding.observations[0].read_from == "here"
    assert (finding.remediation, finding.does_not_show, finding.at) == ("Use less.", "Much.", AT)


def test_rules_are_put_only_to_subjects_of_their_scope() -> None:
    assert assess_subject(pack(BUDGET_RULE), evidence(SubjectKind.MODEL_VERSION), NOW) == ()


def test_a_pair_rule_is_put_only_to_pairs_with_its_alias() -> None:
    one = pack(rule(condition=BUDGET, scope=SubjectKind.PAIR, baseline_alias="champion"))
    assert assess_subject(one, evidence(SubjectKind.PAIR, "m/2@other"), NOW) == ()
    assert len(assess_subject(one, evidence(SubjectKind.PAIR, "m/2@champion"), NOW)) == 1


def test_a_waiver_in_force_keeps_the_state_underneath() -> None:
    (finding,) = assess_subject(
        pack(BUDGET_RULE, waivers=(waiver(),)), evidence(**{"metric.kwh": 6.0}), NOW
    )
    assert (finding.state, finding.underlying, finding.waiver) == (State.WAIVED, State.FAIL, "W-1")


def test_a_waiver_holds_to_the_end_of_its_last_day_by_utc_and_not_longer() -> None:
    one = pack(BUDGET_RULE, waivers=(waiver(expires=date(2026, 11, 23)),))
    bad = evidence(**{"metric.kwh": 6.0})
    assert state(one, bad, datetime(2026, 11, 23, 23, 59, 59, tzinfo=timezone.utc)) is State.WAIVED
    assert state(one, bad, datetime(2026, 11, 24, tzinfo=timezone.utc)) is State.FAIL


def test_a_waiver_has_no_force_before_it_was_approved() -> None:
    one = pack(BUDGET_RULE, waivers=(waiver(),))
    before = datetime(2026, 9, 30, tzinfo=timezone.utc)
    assert state(one, evidence(**{"metric.kwh": 6.0}), before) is State.FAIL


def test_a_waiver_hides_only_what_it_matches_and_unknown_is_no_match() -> None:
    nightly = Compare(fact="tag.project", operator="equals", operand="nightly", at=AT)
    one = pack(BUDGET_RULE, waivers=(waiver(match=nightly),))
    over: dict[str, FactValue] = {"metric.kwh": 6.0}
    assert state(one, evidence(**over, **{"tag.project": "nightly"})) is State.WAIVED
    assert state(one, evidence(**over, **{"tag.project": "daily"})) is State.FAIL
    assert state(one, evidence(**over)) is State.FAIL


def test_a_rule_that_cannot_be_evaluated_is_not_waived() -> None:
    one = pack(rule(condition=at_most("tag.x", 5)), waivers=(waiver(),))
    assert state(one, evidence(**{"tag.x": "many"})) is State.ERROR


def request(uri: str, *packs: Pack, **query: tuple[str, ...] | str) -> AuditRequest:
    return AuditRequest(store=uri, packs=packs, query=Query(**query))  # type: ignore[arg-type]


ENERGY = rule(condition=at_most("metric.carbon/energy_kwh", 2))


def test_an_audit_counts_every_rule_on_every_subject(sqlite_store: Seeded) -> None:
    attest = Attest(statement="reviewed", asks="It was.", max_age_days=None, at=AT)
    whole = pack(
        ENERGY,
        rule("LIC", Compare(fact="dataset.license", operator="present", operand=True, at=AT), SubjectKind.DATASET_INPUT),
        rule("OWN", Compare(fact="model_tag.owner", operator="present", operand=True, at=AT), SubjectKind.REGISTERED_MODEL),
        rule("TOT", at_most("lineage.energy_kwh", 100), SubjectKind.MODEL_VERSION),
        rule("REV", None, SubjectKind.MODEL_VERSION, attest=attest),
    )  # fmt: skip
    audit = run_audit(request(sqlite_store.uri, whole), LATER)
    counts = {
        one.rule.id: {state.value: n for state, n in one.counts.items() if n} for one in audit.rules
    }
    assert counts == {
        "ENE-1": {"pass": 3, "fail": 1},
        "LIC": {"pass": 1, "fail": 2},
        "OWN": {"pass": 1, "fail": 1},
        "TOT": {"pass": 2},
        "REV": {"needs_attestation": 2},
    }
    assert sum(one.subjects for one in audit.rules) == len(audit.findings)
    assert [f.state for f in audit.findings][:4] == [State.FAIL] * 4
    assert audit.energy.total_j is not None
    assert audit.energy.runs_inside_counted == 2
    assert (audit.selection.runs_selected, audit.selection.runs_read) == (5, 4)
    assert audit.selection.failed_to_read == ((sqlite_store.running, "still running"),)


def test_the_same_audit_gives_the_same_answer_twice(sqlite_store: Seeded) -> None:
    first, second = (run_audit(request(sqlite_store.uri, pack(ENERGY)), LATER) for _ in "ab")
    assert first == second


def test_a_server_and_its_database_are_audited_alike(sqlite_store: Seeded, server: str) -> None:
    direct = run_audit(request(sqlite_store.uri, pack(ENERGY)), LATER)
    served = run_audit(request(server, pack(ENERGY)), LATER)
    assert served.findings == direct.findings
    assert served.energy == direct.energy
    assert served.datasets == direct.datasets


def test_a_model_alone_selects_the_runs_behind_it(sqlite_store: Seeded) -> None:
    audit = run_audit(request(sqlite_store.uri, pack(ENERGY), models=("credit",)), LATER)
    assert {row.run_id for row in audit.energy.rows} == {
        sqlite_store.parent,
        *sqlite_store.trials,
        sqlite_store.evaluation,
    }


def test_versions_of_runs_outside_the_selection_are_left_out(sqlite_store: Seeded) -> None:
    whole = pack(ENERGY, rule("TOT", at_most("lineage.runs", 100), SubjectKind.MODEL_VERSION))
    chosen = f"attributes.run_id = '{sqlite_store.evaluation}'"
    audit = run_audit(request(sqlite_store.uri, whole, filter=chosen), NOW)
    assert [one.subjects for one in audit.rules] == [1, 0]


def test_runs_begun_after_a_date_that_was_chosen_are_left_out(sqlite_store: Seeded) -> None:
    as_of = datetime.fromtimestamp(1_500, tz=timezone.utc)
    audit = run_audit(request(sqlite_store.uri, pack(ENERGY)), as_of)
    assert audit.selection.runs_selected == 3


def test_a_candidate_is_compared_with_the_older_champion(
    sqlite_copy: Path, sqlite_store: Seeded
) -> None:
    uri = f"sqlite:///{sqlite_copy}"
    client = MlflowClient(uri, uri)
    client.create_model_version("credit", f"runs:/{sqlite_store.trials[0]}/model")
    drop = rule(
        "PAIR", at_most("baseline.metric.auc", 1), SubjectKind.PAIR, baseline_alias="champion"
    )
    audit = run_audit(request(uri, pack(drop)), LATER)
    assert [finding.subject.key for finding in audit.findings] == ["credit/2@champion"]
    assert audit.findings[0].state is State.PASS


def test_attestations_of_the_versions_read_are_listed(sqlite_copy: Path) -> None:
    uri = f"sqlite:///{sqlite_copy}"
    made = {"model": "credit", "version": "1", "statement": "reviewed", "by": "bob", "role": "risk"}
    made |= {"made_at": "2026-01-01T00:00:00+00:00", "reason": "read it"}
    tag = RegistryTag.ATTESTATION_PREFIX + "reviewed"
    MlflowClient(uri, uri).set_model_version_tag("credit", "1", tag, json.dumps(made))
    audit = run_audit(request(uri, pack(ENERGY)), LATER)
    assert [(key, one.by) for key, one in audit.attestations] == [("credit/1", "bob")]


def test_waivers_without_effect_are_listed(sqlite_store: Seeded) -> None:
    unused = Compare(fact="tag.project", operator="equals", operand="nothing", at=AT)
    one = pack(ENERGY, waivers=(waiver(match=unused),))
    two = pack(ENERGY, waivers=(waiver(expires=date(2026, 11, 1)),), pack_id="q")
    audit = run_audit(request(sqlite_store.uri, one, two), NOW)
    assert audit.unused_waivers == (
        "W-1: hides nothing in this audit",
        "W-1: expired on 2026-11-01, without force",
    )


def test_progress_is_told_from_the_first_run_to_the_last_subject(sqlite_store: Seeded) -> None:
    told: list[tuple[str, int, int | None]] = []
    progress: Callable[[str, int, int | None], None] = lambda *step: told.append(step)  # noqa: E731
    run_audit(request(sqlite_store.uri, pack(ENERGY)), LATER, progress)
    assert {stage for stage, _, _ in told} == {"Reading runs", "Reading models", "Checking"}
    assert told[-1][1] == told[-1][2]


def test_a_store_without_runs_cannot_be_audited(sqlite_copy: Path) -> None:
    with pytest.raises(StoreError, match="has no runs"):
        run_audit(
            request(f"sqlite:///{sqlite_copy}", pack(ENERGY), experiments=("Default",)), LATER
        )


def test_a_selection_without_a_finished_run_cannot_be_audited(sqlite_store: Seeded) -> None:
    running = f"attributes.run_id = '{sqlite_store.running}'"
    with pytest.raises(
        StoreError, match=r"no finished run: still running \(1\)\..*`mlflow-carbon recover`"
    ):
        run_audit(request(sqlite_store.uri, pack(ENERGY), filter=running), LATER)
