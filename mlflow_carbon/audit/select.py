"""What an audit is asked to read, and the subjects that come from the registry."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from mlflow_carbon.errors import NothingToAuditError
from mlflow_carbon.evidence.model import Attestation, Evidence, SubjectKind
from mlflow_carbon.evidence.pairs import pair_evidence
from mlflow_carbon.evidence.query import DEADLINE_S, Query, RegisteredModel, Store
from mlflow_carbon.evidence.sealed import SealCheck
from mlflow_carbon.evidence.store import STILL_RUNNING
from mlflow_carbon.evidence.trees import moment_of
from mlflow_carbon.policy.about import pack_evidence
from mlflow_carbon.policy.compile import facts_of
from mlflow_carbon.policy.model import Pack
from mlflow_carbon.schema import RegistryTag

Progress = Callable[[str, int, int | None], None]
"""Called with a stage in words, how much of it is done, and of how much (``None``: not known)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditRequest:
    """What to audit against what. ``query.models`` alone selects the runs behind those models."""

    store: str
    packs: tuple[Pack, ...]
    query: Query = field(default_factory=Query)
    command: str = ""
    engine: str = "auto"
    """``columns``: straight from the database, all rules at once. ``plain``: run by run through MLflow.
    ``spark``: as columns, each bucket of a snapshot where Spark has room.
    ``auto``: columns where that can be done and there are many runs. The answers are the same."""
    memory_mb: int = 1536
    """What the columns may take before they go to disk."""
    jobs: int = 0
    """Threads; 0: as many as there are processors, on Spark one for each bucket."""
    findings_file: Path | None = None
    """Where an audit in columns writes all its answers on runs and datasets, as Parquet: a file, or a
    folder of them when the store is a snapshot in buckets."""
    digests_file: Path | None = None
    """Where an audit in columns writes one digest for each run (``audit.digests``)."""
    seals: Callable[[str], SealCheck] | None = None
    """Compares a run with its seal (``evidence.seal.Seals.check``); ``None``: the facts ``seal.*`` stay unknown."""
    attestations: Mapping[str, tuple[Attestation, ...]] = field(default_factory=dict)
    """Read from files, by ``evidence.attestation.binding`` of the version each is about."""
    later_runs: bool = False
    """Whether runs that begin after the moment are selected and told as not read, as in an audit as of now, or are
    no part of the question, as in one of a moment that was chosen: then the answers stay the same for ever."""
    deadline_s: float = DEADLINE_S
    """What a server may take for all it is asked."""
    listed_findings: int = 2_000
    """How many findings on runs and datasets an audit in columns lists one by one, the worst first."""


@dataclass(frozen=True, slots=True)
class Registered:
    """The models and versions of an audit."""

    models: tuple[RegisteredModel, ...]
    versions: tuple[Evidence, ...]

    def subjects(self, packs: Sequence[Pack], as_of: datetime) -> Iterator[Evidence]:
        """Everything rules can be about besides runs and their datasets."""
        for pack in packs:
            yield pack_evidence(pack, as_of)
        yield from self.versions
        for model in self.models:
            yield model.evidence
        aliases = {
            rule.baseline_alias
            for pack in packs
            for rule in pack.rules
            if rule.scope is SubjectKind.PAIR
        }
        yield from self._pairs(sorted(aliases))

    def _pairs(self, aliases: Sequence[str]) -> Iterator[Evidence]:
        """Each version against the older one behind an alias."""
        versions = {version.subject.key: version for version in self.versions}
        for model in self.models:
            name = model.evidence.subject.key
            for alias in aliases:
                number = model.aliases.get(alias, "")
                baseline = versions.get(f"{name}/{number}")
                for other in model.versions:
                    candidate = versions.get(f"{name}/{other}")
                    if candidate and baseline and int(other) > int(number):
                        yield pair_evidence(candidate, baseline, alias)

    def trained(self) -> dict[str, str]:
        """Run id -> the versions it trained, in words."""
        names: dict[str, list[str]] = {}
        for version in self.versions:
            for run in version.members["training_run"]:
                names.setdefault(run.subject.key, []).append(version.subject.label)
        return {run_id: ", ".join(labels) for run_id, labels in names.items()}


def begun(subject: Evidence, fact: str, as_of: datetime) -> bool:
    """Whether it was there at the moment; without a time on record it was."""
    moment = moment_of(subject, fact)
    return moment is None or moment <= as_of


def read_registered(
    store: Store,
    request: AuditRequest,
    only: Container[str] | None,
    as_of: datetime,
    progress: Progress,
) -> Registered:
    """The models and versions asked for; with ``only``, those trained by one of these runs."""
    models: list[RegisteredModel] = []
    versions: list[Evidence] = []
    for done, model in enumerate(store.models(request.query)):
        progress("Reading models", done, None)
        name = model.evidence.subject.key
        found = [
            store.version(name, number)
            for number, run_id in model.versions.items()
            if only is None or run_id in only
        ]
        if found or only is None:
            models.append(model)
            versions.extend(one for one in found if begun(one, "version.created", as_of))
    return Registered(tuple(models), _with_files(request, versions, progress))


def _with_files(
    request: AuditRequest, versions: Sequence[Evidence], progress: Progress
) -> tuple[Evidence, ...]:
    """The versions; their files are read, every byte, where a rule asks whether they were changed."""
    rules = [rule for pack in request.packs for rule in pack.rules]
    if not any("version.files" in facts_of(rule.condition) for rule in rules):
        return tuple(versions)
    read: list[Evidence] = []
    for done, version in enumerate(versions):
        progress("Comparing files with those approved", done, len(versions))
        if f"version_tag.{RegistryTag.MANIFEST}" not in version.facts:
            read.append(version)
            continue
        from mlflow_carbon.evidence.manifest import with_files  # MLflow: seconds

        read.append(with_files(request.store, version))
    return tuple(read)


def nothing_to_audit(
    store: Store, query: Query, unread: Sequence[tuple[str, str]], as_of: datetime
) -> NothingToAuditError:
    """Why there is nothing, in the user's own words. ``unread``: (run id, why it is not over)."""
    where = " ".join(
        [
            *(f"--experiment {name!r}" for name in query.experiments),
            *([f"--filter {query.filter!r}"] if query.filter else []),
            *([f"--since {query.since.isoformat()}"] if query.since else []),
            *([f"--until {query.until.isoformat()}"] if query.until else []),
            *(f"--model {name!r}" for name in query.models),
        ]
    )
    selected = f"the selection {where}" if where else "it"
    if unread:
        counts = Counter(why for _, why in unread)
        reasons = ", ".join(f"{why} ({count})" for why, count in sorted(counts.items()))
        advice = "Try again when they have ended; if their process was killed, run `mlflow-carbon recover`."
        if STILL_RUNNING not in counts:
            advice = (
                f"The audit was as of {as_of:%Y-%m-%d %H:%M %Z}: try again later, or look at the clock of the machine "
                "they ran on."
            )
        return NothingToAuditError(
            f"{store.shown}: {selected} has no finished run: {reasons}. Nothing was audited. {advice}"
        )
    return NothingToAuditError(
        f"{store.shown}: {selected} has no runs as of {as_of:%Y-%m-%d %H:%M %Z}. Nothing was audited."
    )
