"""The parts of ``mlflow-carbon policy`` that read a store: imported only when they are needed."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import datetime

import click

from mlflow_carbon.audit.run import run_audit
from mlflow_carbon.audit.seals import Comparisons
from mlflow_carbon.audit.select import AuditRequest
from mlflow_carbon.cli._integrity import seal_check
from mlflow_carbon.errors import StoreError
from mlflow_carbon.evidence.model import Evidence, SubjectKind
from mlflow_carbon.evidence.pairs import pair_evidence
from mlflow_carbon.evidence.snapshot import is_snapshot
from mlflow_carbon.evidence.store import Query, Store, open_store
from mlflow_carbon.policy.about import pack_evidence
from mlflow_carbon.policy.compile import facts_of
from mlflow_carbon.policy.difference import Verdicts
from mlflow_carbon.policy.model import Pack, Rule
from mlflow_carbon.schema import RegistryTag

LISTED = 20_000
"""Answers of each audit that are compared one by one; of more, the counts are."""
_RUN_ID = re.compile(r"[0-9a-zA-Z_-]{1,64}")
_VERSION = re.compile(r"(?:models:/)?(?P<name>[^@]+)/(?P<version>\d+)")


def subjects(
    pack: Pack, rule: Rule, what: str, store: str | None, as_of: datetime
) -> Iterator[Evidence]:
    """The evidence ``rule`` is put to when somebody names ``what``: a run id, a version or a model.

    Artifacts (the sealed record, a version's files) are read where the rule asks about them.

    Raises:
        UsageError: ``what`` does not fit the scope of the rule.
        StoreError: it is not there.
    """
    if rule.scope is SubjectKind.POLICY:
        yield pack_evidence(pack, as_of)
        return
    if store is None:
        raise click.UsageError("name the store with --store, as for an audit.")
    asked = facts_of(rule.when) | facts_of(rule.condition)
    sealed = any(fact.startswith("seal.") for fact in asked) and not is_snapshot(store)
    comparisons = Comparisons(seal_check(store, None) if sealed else None)
    for found in _subjects(rule, what, store):
        manifest = f"version_tag.{RegistryTag.MANIFEST}" in found.facts
        if "version.files" in asked and manifest and not is_snapshot(store):
            from mlflow_carbon.evidence.manifest import with_files  # MLflow: seconds

            yield comparisons.known(with_files(store, found))
        else:
            yield comparisons.known(found)


def _subjects(rule: Rule, what: str, store: str) -> Iterator[Evidence]:
    opened = open_store(store)
    if rule.scope in (SubjectKind.RUN, SubjectKind.DATASET_INPUT):
        run = _run(opened, what)
        if rule.scope is SubjectKind.RUN:
            yield run
        else:
            yield from run.members["datasets"]
    elif rule.scope is SubjectKind.REGISTERED_MODEL:
        version = _VERSION.fullmatch(what)  # no model's name holds a slash
        name = version["name"] if version else what.removeprefix("models:/")
        yield next(iter(opened.models(Query(models=(name,))))).evidence
    else:
        yield _version(opened, rule, what)


def _run(store: Store, run_id: str) -> Evidence:
    if not _RUN_ID.fullmatch(run_id):
        raise click.UsageError(f"{run_id!r} is not a run id; the rule is about runs.")
    for run in store.runs(Query(filter=f"attributes.run_id = '{run_id}'")):
        return run
    raise StoreError(f"{store.shown}: there is no run {run_id}, or it was deleted.")


def _version(store: Store, rule: Rule, what: str) -> Evidence:
    match = _VERSION.fullmatch(what)
    if match is None:
        raise click.UsageError(
            f"{what!r}: the rule is about model versions; write models:/NAME/VERSION."
        )
    candidate = store.version(match["name"], match["version"])
    if rule.scope is SubjectKind.MODEL_VERSION:
        return candidate
    model = next(iter(store.models(Query(models=(match["name"],)))))
    alias = rule.baseline_alias
    if alias not in model.aliases or model.aliases[alias] == match["version"]:
        raise StoreError(
            f"{store.shown}: no other version of {match['name']} has the alias {alias}."
        )
    return pair_evidence(candidate, store.version(match["name"], model.aliases[alias]), alias)


def verdicts(pack: Pack, store: str, as_of: datetime) -> Verdicts:
    """What an audit with this pack alone answers, by the engine that the audit would take.

    Raises:
        StoreError: the store cannot be read.
    """
    request = AuditRequest(store=store, packs=(pack,), listed_findings=LISTED)
    audit = run_audit(request, as_of)
    return Verdicts(
        {
            (
                one.rule_id,
                f"{one.subject.kind.value} {one.subject.label} ({one.subject.key})",
            ): one.state
            for one in audit.findings
        },
        {summary.rule.id: dict(summary.counts) for summary in audit.rules},
        audit.findings_left_out,
    )
