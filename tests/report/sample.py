"""A realistic audit made by hand: 20 rules, all seven states, a tuning tree, hostile names.

The report is tested against this, so that it does not depend on a store or on the engine.
"""

from __future__ import annotations

from datetime import date, datetime, timedelta, timezone

from mlflow_carbon.audit.baseline import OPEN, Earlier, Past, compare
from mlflow_carbon.audit.finding import Finding
from mlflow_carbon.audit.power import PowerCurve, curve
from mlflow_carbon.audit.summary import (
    Audit,
    DatasetRow,
    EnergyAccount,
    MeasuringCost,
    RuleSummary,
    RunEnergyRow,
    Selection,
)
from mlflow_carbon.errors import Location
from mlflow_carbon.evidence.model import Attestation, Subject, SubjectKind
from mlflow_carbon.evidence.sealed import Change, Seal, SealCheck
from mlflow_carbon.policy.model import (
    Attest,
    Compare,
    ControlRef,
    Gate,
    Observation,
    OnMissing,
    Pack,
    Relation,
    Rule,
    Severity,
    State,
    Waiver,
)
from mlflow_carbon.units import J_PER_KWH, Range

AS_OF = datetime(2026, 11, 20, 9, 30, tzinfo=timezone.utc)
HOSTILE_HTML = "<script>alert('x')</script><img src=file:///etc/passwd>"
HOSTILE_CSS = "}}</style><style>body{background:url(file:///etc/passwd)}"
HOSTILE_FORMULA = '=HYPERLINK("http://127.0.0.1:9/","open")'
HOSTILE_RTL = "credit\u202egnp.exe"
HOSTILE_NUL = "batch\x00\x1b[31m-7\x07"
HOSTILE_TEMPLATE = "{{ 7*7 }}{% include '/etc/passwd' %}${x}"
HOSTILE_LONG = "w" * 8000
HOSTILE_OTHER_SCRIPTS = "\u6570\u636e\u96c6 \u0646\u0645\u0648\u0630\u062c \U0001f98a"
HOSTILE = (
    HOSTILE_HTML,
    HOSTILE_CSS,
    HOSTILE_FORMULA,
    HOSTILE_RTL,
    HOSTILE_NUL,
    HOSTILE_TEMPLATE,
    HOSTILE_LONG,
    HOSTILE_OTHER_SCRIPTS,
)

_S, _V = State, Severity
_KIND = {
    "run": SubjectKind.RUN,
    "data": SubjectKind.DATASET_INPUT,
    "version": SubjectKind.MODEL_VERSION,
    "model": SubjectKind.REGISTERED_MODEL,
    "pair": SubjectKind.PAIR,
    "policy": SubjectKind.POLICY,
}
# id, kind, severity, control, title, fact, expected, observed, failing sentence, remediation, does not show
_RULES = (
    (
        "ENE-001",
        "run",
        _V.HIGH,
        "MEASURE-2.12",
        "Every run has an energy figure",
        "metric.carbon/energy_kwh",
        "present",
        "0.412",
        "The run has no energy figure.",
        "Run training with mlflow-carbon installed, or recover the spool of a killed run.",
        "That the energy was necessary.",
    ),
    (
        "ENE-002",
        "run",
        _V.MEDIUM,
        "MEASURE-2.13",
        "Energy was watched for at least 90 % of the run",
        "metric.carbon/coverage",
        "at least 0.9",
        "0.62",
        "Only 62 % of the run's time was watched.",
        "Keep the process alive until the run ends; see the run's not_measured tag.",
        "That the sensors are right.",
    ),
    (
        "ENE-004",
        "run",
        _V.LOW,
        "MEASURE-2.13",
        "Energy comes from counters or sensors",
        "tag.mlflow_carbon.method",
        "one of counter, sampled",
        "modelled",
        "Energy is modelled, not measured.",
        "Train on a host with RAPL or NVML, or accept the wide range.",
        "That a modelled figure is wrong; it is less certain.",
    ),
    (
        "ENE-006",
        "run",
        _V.HIGH,
        "MEASURE-2.12",
        "Training energy stays inside the approved budget",
        "metric.carbon/energy_kwh",
        "at most 0.5",
        "1.83",
        "The run used 1.83 kWh; the budget is 0.5 kWh.",
        "Ask the model owner for a larger budget, or search a smaller space.",
        "That the energy was necessary, or that the carbon factor is right.",
    ),
    (
        "CAR-001",
        "run",
        _V.MEDIUM,
        "MEASURE-2.12",
        "Carbon uses a factor for the place the run ran in",
        "tag.mlflow_carbon.region_source",
        "one of setting, provider",
        "unknown",
        "The region is unknown; the world average was used.",
        "Set MLFLOW_CARBON_REGION on the training host.",
        "That the region is true: it is a setting.",
    ),
    (
        "CAR-003",
        "run",
        _V.LOW,
        "MAP-3.2",
        "The carbon factor is at most three years old",
        "tag.mlflow_carbon.factor_year",
        "at least 2023",
        "2025",
        "The factor is older than three years.",
        "Update mlflow-carbon.",
        "That the year's average fits the hours of the run.",
    ),
    (
        "DAT-001",
        "data",
        _V.HIGH,
        "MAP-2.3",
        "Every training dataset has a content hash",
        "dataset.sha256",
        "present",
        None,
        "The dataset has no content hash.",
        "Log the dataset with mlflow.log_input.",
        "That the content is right or lawful.",
    ),
    (
        "DAT-002",
        "data",
        _V.HIGH,
        "GOVERN-6.1",
        "Every dataset states its license",
        "dataset.license",
        "present",
        None,
        "No license is on record for the dataset.",
        "Put a dataset card beside the script, or attest the card afterwards.",
        "Legal clearance: the license is what somebody declared.",
    ),
    (
        "DAT-003",
        "data",
        _V.MEDIUM,
        "GOVERN-6.1",
        "The license is a known SPDX expression",
        "dataset.license",
        "SPDX expression",
        "LicenseRef-proprietary",
        "The license LicenseRef-proprietary is not an SPDX expression.",
        "Use the SPDX identifier of the license.",
        "That the license allows your use.",
    ),
    (
        "DAT-005",
        "data",
        _V.MEDIUM,
        "MAP-4.1",
        "Every dataset states its origin",
        "dataset.origin",
        "present",
        None,
        "No origin is on record for the dataset.",
        "Fill in the origin in the dataset card.",
        "That the origin is true.",
    ),
    (
        "DAT-007",
        "data",
        _V.CRITICAL,
        "MEASURE-2.10",
        "Personal data is declared",
        "dataset.sensitive",
        "present",
        None,
        "Nobody declared whether the dataset holds personal data.",
        "Declare 'none' or the classes of personal data in the card.",
        "That a declared 'none' is true.",
    ),
    (
        "DAT-008",
        "data",
        _V.HIGH,
        "MAP-4.2",
        "One dataset name means one content",
        "dataset.other_digests",
        "empty",
        "2 other contents",
        "The name stands for other contents elsewhere in the store.",
        "Give each content its own name or version.",
        "Which of the contents is the intended one.",
    ),
    (
        "MOD-001",
        "model",
        _V.MEDIUM,
        "GOVERN-2.1",
        "Every registered model has an owner",
        "model_tag.owner",
        "present",
        None,
        "The model has no owner.",
        "Set the tag owner on the registered model.",
        "That the owner knows of it.",
    ),
    (
        "MOD-002",
        "model",
        _V.MEDIUM,
        "MAP-1.1",
        "Every registered model states its purpose",
        "model_tag.purpose",
        "present",
        None,
        "The model states no purpose.",
        "Set the tag purpose on the registered model.",
        "That the purpose is acceptable.",
    ),
    (
        "MOD-004",
        "version",
        _V.HIGH,
        "MEASURE-2.3",
        "The version was evaluated on data it was not trained on",
        "lineage.evaluation_runs",
        "at least 1",
        "0",
        "No evaluation run is linked to the version.",
        "Evaluate the version with mlflow.models.evaluate.",
        "That the test data is like the data in use.",
    ),
    (
        "MOD-005",
        "version",
        _V.HIGH,
        "GOVERN-1.6",
        "The training run of the version is known",
        "version.run_id",
        "present",
        "4f3a",
        "The version has no training run.",
        "Register the model from its run.",
        "That the run is the one that made the files.",
    ),
    (
        "MOD-007",
        "version",
        _V.CRITICAL,
        "MANAGE-1.1",
        "A named person approved the intended use",
        "attestation",
        "a statement not older than 180 days",
        None,
        "Nobody attested: the intended use was reviewed.",
        "mlflow-carbon attest intended-use-reviewed",
        "That the review was a good one.",
    ),
    (
        "EVL-002",
        "version",
        _V.MEDIUM,
        "MEASURE-2.11",
        "Accuracy per group is on record",
        "metric.accuracy_gap",
        "at most 0.05",
        "not a number: 'n/a'",
        "The value 'n/a' of accuracy_gap is not a number.",
        "Log accuracy_gap as a number.",
        "That the groups are the right ones.",
    ),
    (
        "EVL-005",
        "pair",
        _V.CRITICAL,
        "MEASURE-4.3",
        "No silent regression against the model in use",
        "metric.accuracy",
        "at least 0.956",
        "0.941",
        "Accuracy is 0.941; the champion has 0.961.",
        "Find out which groups lost, and train again.",
        "That the metric is the right one.",
    ),
    (
        "GOV-003",
        "policy",
        _V.HIGH,
        "MANAGE-1.3",
        "No waiver has expired",
        "policy.expired_waivers",
        "equal to 0",
        "1",
        "1 waiver has expired.",
        "Renew the waiver or mend what it excuses.",
        "That what a waiver excuses is harmless.",
    ),
    (
        "REP-001",
        "run",
        _V.LOW,
        "MAP-2.3",
        "The source commit is on record",
        "run.source_commit",
        "present",
        "9f31c2e",
        "No source commit is on record.",
        "Train from a git checkout.",
        "That the working tree was clean.",
    ),
)
_RELATIONS = (Relation.SUPPORTS, Relation.PARTIALLY_SUPPORTS, Relation.INFORMS)

RUN_NAMES = (
    ("tune-gradient-boosting", ""),
    ("trial depth=3", "0"),
    ("trial depth=5", "0"),
    ("trial depth=9", "0"),
    ("baseline-logistic", ""),
    (HOSTILE_HTML, ""),
    (HOSTILE_RTL, ""),
    (HOSTILE_NUL, ""),
    (HOSTILE_LONG, ""),
    (HOSTILE_OTHER_SCRIPTS, ""),
    (HOSTILE_TEMPLATE, ""),
    ("evaluate-v3", ""),
)
RUN_IDS = tuple(f"{index:02d}c0ffee{index:024x}" for index in range(len(RUN_NAMES)))


def _rule(row: tuple[object, ...], line: int) -> Rule:
    ident, kind, severity, control, title, fact, expected = row[:7]
    at = Location("policies/packs/baseline.yaml", line, 5)
    attest = None
    if fact == "attestation":
        asks = "I reviewed the intended use."
        attest = Attest(statement="intended-use-reviewed", asks=asks, max_age_days=180, at=at)
    return Rule(
        id=str(ident), title=str(title), severity=severity, scope=_KIND[str(kind)],
        rationale="A figure that is not on record cannot be judged.",
        controls=(
            ControlRef("nist-ai-rmf", str(control), _RELATIONS[line % 3]),
            ControlRef("eu-ai-act", "Art-11", Relation.INFORMS),
        ),
        when=None,
        condition=None if attest else Compare(fact=str(fact), operator="present", operand=str(expected), at=at),
        attest=attest, on_missing=OnMissing.NO_EVIDENCE, finding=str(row[8]), remediation=str(row[9]),
        does_not_show=str(row[10]), tests=(), at=at,
    )  # fmt: skip


def _subjects(kind: str) -> tuple[Subject, ...]:
    if kind == "run":
        return tuple(
            Subject(SubjectKind.RUN, ident, name)
            for ident, (name, _) in zip(RUN_IDS, RUN_NAMES, strict=True)
        )
    if kind == "data":
        names = (("breast_cancer", "a1b2c3d4"), (HOSTILE_FORMULA, "deadbeef"))
        return tuple(
            Subject(SubjectKind.DATASET_INPUT, f"{run}/{name}/{digest}/training", name)
            for run in RUN_IDS[:4]
            for name, digest in names
        )
    versions = ("credit-risk/3", "credit-risk/4")
    if kind == "version":
        return tuple(
            Subject(SubjectKind.MODEL_VERSION, key, key.replace("/", " version "))
            for key in versions
        )
    if kind == "pair":
        return (
            Subject(
                SubjectKind.PAIR, "credit-risk/4@champion", "credit-risk version 4 against champion"
            ),
        )
    if kind == "policy":
        return (Subject(SubjectKind.POLICY, "baseline", "baseline 1.0.0"),)
    return (
        Subject(SubjectKind.REGISTERED_MODEL, "credit-risk", "credit-risk"),
        Subject(SubjectKind.REGISTERED_MODEL, HOSTILE_CSS, HOSTILE_CSS),
    )


def _state(ident: str, kind: str, index: int) -> State:
    special = {
        "EVL-002": (State.ERROR, State.PASS),
        "MOD-007": (State.NEEDS_ATTESTATION, State.PASS),
        "EVL-005": (State.FAIL,),
        "DAT-008": (State.WAIVED, State.PASS),
        "ENE-006": (State.FAIL, State.PASS, State.PASS, State.PASS),
        "CAR-003": (State.PASS,),
        "REP-001": (State.PASS, State.NOT_APPLICABLE),
        "MOD-004": (State.FAIL, State.PASS),
        "MOD-005": (State.PASS,),
        "ENE-001": (State.PASS,) * 7 + (State.NO_EVIDENCE,),
        "ENE-004": (State.FAIL,),
        "GOV-003": (State.FAIL,),
    }
    cycle = special.get(ident) or (
        (State.PASS, State.NO_EVIDENCE)
        if kind in {"data", "model"}
        else (State.PASS, State.PASS, State.FAIL)
    )
    return cycle[index % len(cycle)]


def _finding(row: tuple[object, ...], rule: Rule, subject: Subject, state: State) -> Finding:
    fact, expected, observed = str(row[5]), str(row[6]), row[7]
    bad = state not in {State.PASS, State.NOT_APPLICABLE}
    seen = None if state in {State.NO_EVIDENCE, State.NEEDS_ATTESTATION} else observed
    return Finding(
        rule_id=rule.id, pack_id="baseline", title=rule.title, severity=rule.severity, subject=subject,
        state=state, underlying=State.FAIL if state is State.WAIVED else None,
        message=str(row[8]) if bad else "As expected.",
        observations=(
            Observation(
                fact=fact, expected=expected, observed=None if seen is None else str(seen),
                read_from=f"{subject.kind.value} {subject.key[:12]} {fact}", at=rule.at,
            ),
        ),
        controls=rule.controls, remediation=rule.remediation, does_not_show=rule.does_not_show,
        at=rule.at, waiver="W-2026-014" if state is State.WAIVED else "",
    )  # fmt: skip


def _order(finding: Finding) -> tuple[int, int, str, str]:
    worst = (
        State.FAIL, State.ERROR, State.NO_EVIDENCE, State.NEEDS_ATTESTATION,
        State.WAIVED, State.PASS, State.NOT_APPLICABLE,
    )  # fmt: skip
    return worst.index(finding.state), finding.severity.rank, finding.rule_id, finding.subject.key


def _energy_row(index: int) -> RunEnergyRow:
    name, parent = RUN_NAMES[index]
    kwh = (1.83, 0.412, 0.611, 0.702, 0.021, 0.33, 0.27, None, 0.19, 0.055, 0.4, 0.012)[index]
    measured = index not in {4, 9}
    joules = None if kwh is None else kwh * J_PER_KWH
    spread = 0.02 if measured else 0.45
    energy = None if joules is None else Range(joules * (1 - spread), joules, joules * (1 + spread))
    return RunEnergyRow(
        run_id=RUN_IDS[index], name=name, experiment="credit-risk",
        status="FAILED" if index == 8 else "FINISHED", parent_id=RUN_IDS[0] if parent else "",
        model_name="credit-risk" if index < 4 else "", start_time=AS_OF - timedelta(days=40 - 3 * index),
        duration_s=None if joules is None else 240.0 + 911.0 * index, energy_j=energy,
        gpu_j=None if joules is None or not measured else joules * 0.7,
        cpu_j=None if joules is None else joules * (0.25 if measured else 1.0),
        dram_j=None if joules is None or not measured else joules * 0.05,
        emissions_g=None if joules is None else Range(joules * 0.9 / 87000, joules / 87000, joules * 1.3 / 87000),
        coverage=None if joules is None else (0.62 if index == 6 else 0.99),
        method="missing" if joules is None else ("counter" if measured else "modelled"),
        grade="D" if joules is None or not measured else "A",
        region="FR", factor="" if joules is None else "41.4 g/kWh, Ember, 2025, lifecycle",
        quality={"accuracy": 0.90 + 0.006 * index} if joules is not None else {},
    )  # fmt: skip


def _energy() -> EnergyAccount:
    rows = tuple(_energy_row(index) for index in range(len(RUN_NAMES)))
    top = [row for row in rows if not row.parent_id and row.energy_j is not None]
    total, carbon = Range.exactly(0.0), Range.exactly(0.0)
    for row in top:
        assert row.energy_j is not None
        assert row.emissions_g is not None
        total, carbon = total + row.energy_j, carbon + row.emissions_g
    modelled = sum(r.energy_j.mid for r in top if r.method == "modelled" and r.energy_j)
    return EnergyAccount(
        rows=rows, total_j=total, measured_j=total.mid - modelled, modelled_j=modelled,
        emissions_g=carbon, runs_counted=len(top), runs_inside_counted=3, runs_unmeasured=1,
        failed_runs_j=0.19 * J_PER_KWH, factors=("41.4 g/kWh, Ember, 2025, lifecycle",),
        measuring=MeasuringCost(3.1, 51_000.0, 7),
    )  # fmt: skip


def _seals() -> tuple[SealCheck, ...]:
    altered = (
        Change("metric", "accuracy", "changed", "0.91", "0.99"),
        Change("tag", HOSTILE_HTML, "added", "", HOSTILE_LONG),
    )
    odd = {
        4: SealCheck(RUN_IDS[4], RUN_NAMES[4][0], Seal.ALTERED, altered),
        5: SealCheck(RUN_IDS[5], RUN_NAMES[5][0], Seal.EXTENDED, altered[1:]),
        7: SealCheck(RUN_IDS[7], RUN_NAMES[7][0], Seal.UNSEALED, reason="the run has no seal"),
    }
    return tuple(
        odd.get(place, SealCheck(run_id, RUN_NAMES[place][0], Seal.SEALED))
        for place, run_id in enumerate(RUN_IDS)
    )


def _past() -> tuple[Past, ...]:
    """Four audits, a week apart, each with fewer failures."""
    return tuple(
        Past(AS_OF - timedelta(weeks=4 - n), dict.fromkeys(State, 6) | {State.PASS: 60 + 9 * n, State.FAIL: 40 - 4 * n})
        for n in range(4)
    )  # fmt: skip


def _earlier(findings: list[Finding]) -> Earlier:
    """The audit of last week: every second finding that is open now was open then, and two that are gone."""
    known = [finding.identity for finding in findings if finding.state in OPEN][::2]
    since = dict.fromkeys(known, AS_OF - timedelta(days=35)) | dict.fromkeys(
        ("0" * 32, "1" * 32), AS_OF - timedelta(days=7)
    )
    return Earlier(AS_OF - timedelta(days=7), since, complete=True)


def _power() -> tuple[PowerCurve, ...]:
    """A steady run of two hours, and one under a hostile name whose power swings."""
    start_ms = int(AS_OF.timestamp() * 1000)
    steady = [(start_ms + 60_000 * n, 212.0 + n % 5) for n in range(120)]
    swings = [(start_ms + 1_000 * n, 40.0 + 260.0 * (n % 60 < 35)) for n in range(5400)]
    drawn = (curve("a" * 32, "xgboost-final", steady), curve("b" * 32, HOSTILE_HTML, swings))
    return tuple(one for one in drawn if one is not None)


def make_audit() -> Audit:
    """The audit all report tests start from."""
    findings: list[Finding] = []
    summaries: list[RuleSummary] = []
    rules: list[Rule] = []
    for number, row in enumerate(_RULES):
        rule = _rule(row, 12 + 9 * number)
        rules.append(rule)
        counts = dict.fromkeys(State, 0)
        for index, subject in enumerate(_subjects(str(row[1]))):
            state = _state(rule.id, str(row[1]), index)
            counts[state] += 1
            findings.append(_finding(row, rule, subject, state))
        summaries.append(RuleSummary(rule=rule, pack_id="baseline", counts=counts))
    at = Location("policies/packs/baseline.yaml", 300, 3)
    pack = Pack(
        id="baseline", version="1.0.0", title="What anybody can have on record", owner="ai-governance@example.org",
        describe="Energy, data and ownership of every run and model.", frameworks=("nist-ai-rmf", "eu-ai-act"),
        parameters={}, rules=tuple(rules),
        waivers=(
            Waiver(
                id="W-2026-014", rules=("DAT-008",), match=None,
                reason="Monthly snapshots share one name until the new data catalogue is in use.",
                requested_by="ml-lead@example.org", approved_by="ciso@example.org",
                approved_on=date(2026, 10, 1), expires=date(2026, 12, 31), ticket="GRC-881", at=at,
                compensating_control="The catalogue team compares digests by hand.",
            ),
        ),
        gate=Gate(aliases=("champion",), blocks_at=Severity.HIGH),
        file="policies/packs/baseline.yaml", sha256="5d" * 32,
        loosened=("Rule CAR-003 is low here and medium in the pack it extends.",),
    )  # fmt: skip
    return Audit(
        as_of=AS_OF, tool_version="0.1.0", mlflow_version="3.17.2",
        command="mlflow-carbon audit --store sqlite:///mlflow.db --policy baseline --as-of 2026-11-20T09:30:00Z",
        packs=(pack,),
        selection=Selection(
            store="sqlite:///mlflow.db", experiments=("credit-risk", HOSTILE_CSS), filter="tags.team = 'risk'",
            models=("credit-risk",), runs_selected=13, runs_read=12,
            failed_to_read=(("ffc0ffee00000000000000000000000d", "its artifact store could not be reached"),),
            since=AS_OF - timedelta(days=60), workspace="risk", earliest=AS_OF - timedelta(days=40), latest=AS_OF - timedelta(days=7),
        ),
        findings=tuple(sorted(findings, key=_order)), rules=tuple(summaries), energy=_energy(),
        datasets=(
            DatasetRow(
                name="breast_cancer", digest="a1b2c3d4", sha256="0f" * 32, hash_scope="full", rows=569,
                license="CC-BY-4.0", origin="UCI Machine Learning Repository", sensitive="health data, no names",
                declared_by="card breast_cancer.dataset.yaml", contexts=("training", "testing"), runs=8,
                source="sklearn.datasets",
            ),
            DatasetRow(
                name=HOSTILE_FORMULA, digest="deadbeef", sha256="", hash_scope="", rows=None, license="",
                origin="", sensitive="", declared_by="", contexts=("training",), runs=4, source=HOSTILE_HTML,
            ),
        ),
        attestations=(
            (
                "credit-risk/4",
                Attestation(
                    statement="intended-use-reviewed", by="Dana Reyes", role="Head of model risk",
                    made_at=AS_OF - timedelta(days=12), expires_at=AS_OF + timedelta(days=168),
                    reason="Used only to rank manual reviews.", reference="GRC-902",
                ),
            ),
        ),
        unused_waivers=("W-2025-003",),
        change=compare(findings, 0, _earlier(findings)), past=_past(), power=_power(), seals=_seals(),
    )  # fmt: skip
