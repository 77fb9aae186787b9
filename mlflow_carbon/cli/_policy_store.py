"""The parts of ``mlflow-carbon policy`` that read a store: imported only when they are needed."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import datetime

import click

from mlflow_carbon.audit.assess import assess_subject
from mlflow_carbon.errors import StoreError
from mlflow_carbon.evidence.pairs import pair_evidence
from mlflow_carbon.evidence.model import Evidence, SubjectKind
from mlflow_carbon.evidence.store import Query, Store, has_ended, open_store, with_other_digests
from mlflow_carbon.policy.about import pack_evidence
from mlflow_carbon.policy.difference import Verdicts
from mlflow_carbon.policy.model import Pack, Rule, State

_RUN_ID = re.compile(r"[0-9a-zA-Z_-]{1,64}")
_VERSION = re.compile(r"(?:models:/)?(?P<name>[^@]+)/(?P<version>\d+)")


def subjects(
    pack: Pack, rule: Rule, what: str, store: str | None, as_of: datetime
) -> Iterator[Evidence]:
    """The evidence ``rule`` is put to when somebody names ``what``: a run id, a version or a model.

    Raises:
        UsageError: ``what`` does not fit the scope of the rule.
        StoreError: it is not there.
    """
    if rule.scope is SubjectKind.POLICY:
        yield pack_evidence(pack, as_of)
        return
    if store is None:
        raise click.UsageError("name the store with --store, as for an audit.")
    opened = open_store(store)
    if rule.scope in (SubjectKind.RUN, SubjectKind.DATASET_INPUT):
        run = _run(opened, what)
        if rule.scope is SubjectKind.RUN:
            yield run
        else:
            yield from run.members["datasets"]
    elif rule.scope is SubjectKind.REGISTERED_MODEL:
        yield next(iter(opened.models(Query(models=(what.removeprefix("models:/"),))))).evidence
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
    """The states an audit with this pack alone would report.

    Raises:
        StoreError: the store cannot be read.
    """
    states: dict[tuple[str, str], State] = {}
    for evidence in _everything(open_store(store), pack, as_of):
        about = evidence.subject
        for finding in assess_subject(pack, evidence, as_of):
            states[finding.rule_id, f"{about.kind.value} {about.label} ({about.key})"] = (
                finding.state
            )
    return states


def _everything(store: Store, pack: Pack, as_of: datetime) -> Iterator[Evidence]:
    """Every subject in the store, and the pack itself."""
    yield pack_evidence(pack, as_of)
    ended = [run for run in store.runs(Query()) if has_ended(run, as_of)]
    for run in with_other_digests(ended):
        yield run
        yield from run.members["datasets"]
    aliases = {rule.baseline_alias for rule in pack.rules if rule.scope is SubjectKind.PAIR}
    for model in store.models(Query()):
        name = model.evidence.subject.key
        versions = {number: store.version(name, number) for number in model.versions}
        yield model.evidence
        yield from versions.values()
        for alias in sorted(aliases & model.aliases.keys()):
            baseline = model.aliases[alias]
            for number, candidate in versions.items():
                if number != baseline and baseline in versions:
                    yield pair_evidence(candidate, versions[baseline], alias)
