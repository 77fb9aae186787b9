"""An audit read back from its ``report.json``, to be told again in another format, language or look.

What is read is data and is not trusted: a value of the wrong kind is refused, not guessed at.
Conditions of rules are not in the file; an audit that was read back can be told, not repeated.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from datetime import date, datetime
from typing import Any, TypeVar

from mlflow_carbon.audit.baseline import OPEN, Comparison, Past
from mlflow_carbon.audit.finding import Finding
from mlflow_carbon.audit.power import PowerCurve, PowerStep
from mlflow_carbon.audit.summary import (
    Audit,
    DatasetRow,
    EnergyAccount,
    MeasuringCost,
    RuleSummary,
    RunEnergyRow,
    Selection,
)
from mlflow_carbon.errors import DataError, Location
from mlflow_carbon.evidence.model import Attestation, Subject, SubjectKind
from mlflow_carbon.evidence.sealed import Change, Seal, SealCheck
from mlflow_carbon.policy.model import (
    Attest,
    ControlRef,
    Gate,
    Observation,
    OnMissing,
    Pack,
    Parameter,
    Relation,
    Rule,
    Severity,
    State,
    Waiver,
)
from mlflow_carbon.report.json import SCHEMA_ID
from mlflow_carbon.units import Range

_Item = TypeVar("_Item")
_Json = Mapping[str, Any]


def read_audit(content: bytes, where: str) -> Audit:
    """The audit that a ``report.json`` tells of.

    Raises:
        DataError: the file is none, or one that this version does not know; says what is wrong.
    """
    try:
        data = json.loads(content)
        if data["$schema"] != SCHEMA_ID:
            raise DataError(
                f"{where}: is of format {data['$schema']!r}; this version reads {SCHEMA_ID!r}."
            )
        return _audit(data)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DataError(
            f"{where}: is no report.json of mlflow-carbon ({type(error).__name__}: {error})."
        ) from None


def _audit(data: _Json) -> Audit:
    rules = {(_text(rule["pack"]), _text(rule["id"])): _summary(rule) for rule in data["rules"]}
    seals = data["seals"]
    return Audit(
        as_of=_moment(data["as_of"]),
        tool_version=_text(data["tool"]["version"]),
        mlflow_version=_text(data["tool"]["mlflow"]),
        command=_text(data["command"]),
        packs=_all(data["packs"], lambda pack: _pack(pack, rules)),
        selection=_selection(data["selection"]),
        findings=_all(data["findings"], lambda one: _finding(one, rules)),
        rules=tuple(rules.values()),
        energy=_energy(data["energy"]),
        datasets=_all(data["datasets"], _dataset),
        attestations=_all(data["attestations"], lambda one: (_text(one["subject"]), _attest(one))),
        unused_waivers=_texts(data["unused_waivers"]),
        findings_left_out=_whole(data["findings_left_out"]),
        datasets_left_out=_whole(data["datasets_left_out"]),
        change=None if data["change"] is None else _change(data),
        past=_all(data["past"], _past),
        power=_all(data["power"], _curve),
        seals=None if seals is None else _all(seals, _seal),
    )


def _all(items: Any, read: Callable[[Any], _Item]) -> tuple[_Item, ...]:
    return tuple(read(item) for item in _listed(items))


def _listed(items: Any) -> list[Any]:
    if not isinstance(items, list):
        raise TypeError(f"a list was expected, not {items!r:.60}")
    return items


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"a text was expected, not {value!r:.60}")
    return value


def _word(value: Any) -> str:
    """A text; null, where nothing was known, is the empty one inside."""
    return "" if value is None else _text(value)


def _texts(values: Any) -> tuple[str, ...]:
    return _all(values, _text)


def _whole(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise TypeError(f"a count was expected, not {value!r:.60}")
    return value


def _number(value: Any) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise TypeError(f"a number was expected, not {value!r:.60}")
    return float(value)


def _some(value: Any, read: Callable[[Any], _Item]) -> _Item | None:
    return None if value is None else read(value)


def _moment(value: Any) -> datetime:
    at = datetime.fromisoformat(_text(value).replace("Z", "+00:00"))
    if at.tzinfo is None:
        raise ValueError(f"{value!r:.60} has no time zone")
    return at


def _range(value: Any) -> Range:
    return Range(_number(value["low"]), _number(value["mid"]), _number(value["high"]))


def _states(value: Any) -> dict[State, int]:
    return {state: _whole(value[state.value]) for state in State}


def _past(one: _Json) -> Past:
    return Past(_moment(one["as_of"]), _states(one["states"]))


def _curve(one: _Json) -> PowerCurve:
    steps = _all(one["steps"], lambda step: PowerStep(*map(_number, _listed(step))))
    if not steps:
        raise ValueError("power without steps")
    return PowerCurve(_text(one["run_id"]), _text(one["name"]), steps)


def _location(at: _Json) -> Location:
    return Location(_text(at["file"]), _whole(at["line"]), _whole(at["column"]))


def _selection(given: _Json) -> Selection:
    return Selection(
        store=_text(given["store"]),
        experiments=_texts(given["experiments"]),
        filter=_text(given["filter"]),
        models=_texts(given["models"]),
        runs_selected=_whole(given["runs_selected"]),
        runs_read=_whole(given["runs_read"]),
        failed_to_read=_all(
            given["failed_to_read"], lambda one: (_text(one["run_id"]), _text(one["reason"]))
        ),
        earliest=_some(given["earliest"], _moment),
        latest=_some(given["latest"], _moment),
        since=_some(given["since"], _moment),
        until=_some(given["until"], _moment),
        workspace=_text(given["workspace"]),
    )


def _summary(given: _Json) -> RuleSummary:
    at = _location(given["at"])
    rule = Rule(
        id=_text(given["id"]), title=_text(given["title"]), severity=Severity(given["severity"]),
        scope=SubjectKind(given["scope"]), rationale=_text(given["rationale"]),
        controls=_all(given["controls"], _control), when=None, condition=None,
        attest=_some(given.get("attest"), lambda asked: _statement(asked, at)),
        on_missing=OnMissing.NO_EVIDENCE, finding="", remediation=_text(given["remediation"]),
        does_not_show=_text(given["does_not_show"]), tests=(), at=at,
    )  # fmt: skip
    return RuleSummary(rule=rule, pack_id=_text(given["pack"]), counts=_states(given["states"]))


def _statement(asked: _Json, at: Location) -> Attest:
    return Attest(
        statement=_text(asked["statement"]), asks=_text(asked["asks"]), max_age_days=None, at=at
    )


def _control(ref: _Json) -> ControlRef:
    return ControlRef(_text(ref["framework"]), _text(ref["control"]), Relation(ref["relation"]))


def _pack(given: _Json, rules: Mapping[tuple[str, str], RuleSummary]) -> Pack:
    ident, file = _text(given["id"]), _text(given["file"])
    return Pack(
        id=ident, version=_text(given["version"]), title=_text(given["title"]),
        owner=_text(given["owner"]), describe="", frameworks=_texts(given["frameworks"]),
        parameters={
            _text(name): Parameter(name=name, type="", value=value)
            for name, value in given["parameters"].items()
        },
        rules=tuple(summary.rule for (pack, _), summary in rules.items() if pack == ident),
        waivers=_all(given["waivers"], lambda one: _waiver(one, file)),
        gate=_some(given["gate"], _gate), file=file, sha256=_text(given["sha256"]),
        loosened=_texts(given["loosened"]),
    )  # fmt: skip


def _gate(given: _Json) -> Gate:
    return Gate(
        aliases=_texts(given["aliases"]), stages=_texts(given["stages"]),
        models=_texts(given["models"]), blocks_at=Severity(given["blocks_at"]),
    )  # fmt: skip


def _waiver(given: _Json, file: str) -> Waiver:
    return Waiver(
        id=_text(given["id"]), rules=_texts(given["rules"]), match=None, reason=_text(given["reason"]),
        requested_by=_text(given["requested_by"]), approved_by=_text(given["approved_by"]),
        approved_on=date.fromisoformat(given["approved_on"]),
        expires=date.fromisoformat(given["expires"]), ticket=_text(given["ticket"]),
        at=Location(file, 0, 0), compensating_control=_text(given.get("compensating_control", "")),
    )  # fmt: skip


def _finding(given: _Json, rules: Mapping[tuple[str, str], RuleSummary]) -> Finding:
    rule = rules[_text(given["pack"]), _text(given["rule"])].rule
    subject = given["subject"]
    return Finding(
        rule_id=rule.id, pack_id=given["pack"], title=rule.title, severity=Severity(given["severity"]),
        subject=Subject(SubjectKind(subject["kind"]), _text(subject["key"]), _text(subject["label"])),
        state=State(given["state"]), underlying=_some(given["underlying"], State),
        message=_text(given["message"]),
        observations=_all(given["observations"], lambda seen: _observation(seen, rule.at.file)),
        controls=rule.controls, remediation=rule.remediation, does_not_show=rule.does_not_show,
        at=rule.at, waiver=_text(given["waiver"]),
        noted=bool(given.get("noted")),
    )  # fmt: skip


def _observation(seen: _Json, file: str) -> Observation:
    return Observation(
        fact=_text(seen["fact"]), expected=_text(seen["expected"]),
        observed=_some(seen["observed"], _text), read_from=_text(seen["read_from"]),
        at=Location(file, _whole(seen["line"]), 0),
    )  # fmt: skip


def _energy(given: _Json) -> EnergyAccount:
    return EnergyAccount(
        rows=_all(given["runs"], _run),
        total_j=_some(given["total_j"], _range),
        measured_j=_number(given["measured_j"]),
        modelled_j=_number(given["modelled_j"]),
        emissions_g=_some(given["emissions_g"], _range),
        runs_counted=_whole(given["runs_counted"]),
        runs_inside_counted=_whole(given["runs_inside_counted"]),
        runs_unmeasured=_whole(given["runs_unmeasured"]),
        failed_runs_j=_number(given["failed_runs_j"]),
        factors=_texts(given["factors"]),
        measuring=_some(
            given["measuring"],
            lambda cost: MeasuringCost(
                _number(cost["cpu_s"]), _number(cost["wall_s"]), _whole(cost["runs"])
            ),
        ),
        rows_left_out=_whole(given["runs_left_out"]),
    )


def _run(given: _Json) -> RunEnergyRow:
    return RunEnergyRow(
        run_id=_text(given["run_id"]), name=_text(given["name"]), experiment=_text(given["experiment"]),
        status=_text(given["status"]), parent_id=_word(given["parent_id"]),
        model_name=_word(given["model_name"]), start_time=_some(given["start_time"], _moment),
        duration_s=_some(given["duration_s"], _number), energy_j=_some(given["energy_j"], _range),
        gpu_j=_some(given["gpu_j"], _number), cpu_j=_some(given["cpu_j"], _number),
        dram_j=_some(given["dram_j"], _number), emissions_g=_some(given["emissions_g"], _range),
        coverage=_some(given["coverage"], _number), method=_text(given["method"]),
        grade=_text(given["grade"]), region=_text(given["region"]), factor=_text(given["factor"]),
        quality={_text(name): _number(value) for name, value in given["quality"].items()},
    )  # fmt: skip


def _dataset(given: _Json) -> DatasetRow:
    words = ("sha256", "hash_scope", "license", "origin", "sensitive", "declared_by", "source")
    return DatasetRow(
        name=_text(given["name"]), digest=_text(given["digest"]), rows=_some(given["rows"], _whole),
        contexts=_texts(given["contexts"]), runs=_whole(given["runs"]),
        **{word: _word(given[word]) for word in words},
    )  # fmt: skip


def _attest(given: _Json) -> Attestation:
    return Attestation(
        statement=_text(given["statement"]), by=_text(given["by"]), role=_text(given["role"]),
        made_at=_moment(given["made_at"]), expires_at=_some(given["expires_at"], _moment),
        reason=_text(given["reason"]), reference=_word(given["reference"]),
    )  # fmt: skip


def _change(data: _Json) -> Comparison:
    given, as_of = data["change"], _moment(data["as_of"])
    states = {state.value for state in OPEN}
    since = {
        _text(one["identity"]): _moment(one["open_since"])
        for one in data["findings"]
        if one["state"] in states
    }
    remaining = {ident: at for ident, at in since.items() if at < as_of}
    return Comparison(
        earlier=_moment(given["earlier"]), new=frozenset(since.keys() - remaining.keys()),
        remaining=frozenset(remaining), resolved=_whole(given["resolved"]), open_since=remaining,
        complete=bool(given["complete"]),
    )  # fmt: skip


def _seal(given: _Json) -> SealCheck:
    changes = _all(
        given["changes"],
        lambda one: Change(*(_text(one[k]) for k in ("place", "key", "kind", "sealed", "now"))),
    )
    return SealCheck(
        _text(given["run_id"]), _text(given["name"]), Seal(given["seal"]), changes, _text(given["reason"])
    )  # fmt: skip
