"""Reads what is on record about a version and puts it to the policy, within a time limit."""

from __future__ import annotations

import concurrent.futures
import contextvars
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import unquote, urlsplit

from mlflow.exceptions import MlflowException

from mlflow_carbon.errors import CarbonError, StoreError
from mlflow_carbon.evidence.lineage import read_version
from mlflow_carbon.evidence.model import Evidence, SubjectKind
from mlflow_carbon.evidence.pairs import pair_evidence, read_pair
from mlflow_carbon.gate import verdict
from mlflow_carbon.gate.decision import Decision, conclude, decide
from mlflow_carbon.gate.refusal import Violation, violations_of
from mlflow_carbon.gate.rulebook import Rulebook
from mlflow_carbon.policy.compile import facts_of
from mlflow_carbon.policy.message import places
from mlflow_carbon.policy.model import Gate, Pack

_THREADS = 8


@dataclass(frozen=True, slots=True)
class Verdict:
    """What stands in the way; nothing: it may pass. ``decision`` is there when the policy was asked."""

    violations: tuple[Violation, ...]
    decision: Decision | None = None

    @property
    def outcome(self) -> str:
        """``allowed``, ``overridden`` or ``refused``."""
        if self.violations:
            return "refused"
        return "overridden" if self.decision and self.decision.override else "allowed"


@dataclass(frozen=True, slots=True)
class Sources:
    """Where evidence is read: runs, registry, and what the ledger knows.

    ``promoted`` gives the version last promoted to an alias: taking the alias away beforehand must
    not do away with the comparison.
    """

    runs: Any
    registry: Any
    promoted: Callable[[str, str], str | None] = lambda _name, _alias: None
    known: Callable[[Evidence], Evidence] = lambda evidence: evidence
    """Adds what is known of a version beyond the store."""


def judge(pack: Pack, sources: Sources, name: str, version: str, as_of: datetime) -> Verdict:
    """Read what is on record about a version, and decide: by its evidence, or by an audit's verdict on it."""
    gate = pack.gate or Gate()
    if gate.verdict_max_age_hours is None:
        evidence, decision = decide_live(pack, sources, name, version, as_of)
    else:
        evidence = verdict.read(sources, name, version)
        compared = verdict.baselines(pack, sources, name)
        max_age = timedelta(hours=gate.verdict_max_age_hours)
        said = verdict.findings(pack, evidence, compared, max_age, as_of)
        decision = conclude(gate, said, evidence, as_of)
    found = () if decision.allowed else violations_of(decision)
    return Verdict((*_foreign_files(sources.runs, evidence), *found), decision)


def decide_live(
    pack: Pack, sources: Sources, name: str, version: str, as_of: datetime
) -> tuple[Evidence, Decision]:
    """Read the evidence of a version and of its baselines, and decide."""
    evidence = sources.known(
        read_version(sources.runs, sources.registry, name, version, whole=_asks_for_lineage(pack))
    )
    aliases = {rule.baseline_alias for rule in pack.rules if rule.scope is SubjectKind.PAIR}
    pairs = [_against(sources, evidence, name, alias) for alias in sorted(aliases)]
    found = tuple(pair for pair in pairs if pair is not None)
    return evidence, decide(pack, evidence, as_of, found)


def _asks_for_lineage(pack: Pack) -> bool:
    """Whether a rule or waiver looks at the whole tree of runs, or speaks of it. Reading it is the costly part."""
    asked = set[str]().union(
        *(facts_of(rule.when) | facts_of(rule.condition) for rule in pack.rules),
        *(facts_of(waiver.match) for waiver in pack.waivers),
    )
    told = {namespace for rule in pack.rules for namespace, _ in places(rule.finding)}
    return any("lineage." in f"{name}." for name in (*asked, *told))


def _against(sources: Sources, evidence: Evidence, name: str, alias: str) -> Evidence | None:
    """The version against the one behind the alias; where the alias is gone, against the last behind it."""
    pair = read_pair(sources.runs, sources.registry, evidence, alias)
    if pair is not None or alias in sources.registry.get_registered_model(name).aliases:
        return pair
    last = sources.promoted(name, alias)
    if last is None or f"{name}/{last}" == evidence.subject.key:
        return None
    try:
        baseline = read_version(sources.runs, sources.registry, name, last)
    except StoreError:  # that version was deleted
        return None
    return pair_evidence(evidence, baseline, alias)


def _foreign_files(runs: Any, evidence: Evidence) -> tuple[Violation, ...]:
    """The version says which run it came from; where its files lie must not say something else.

    Sources that name a run or a model (``runs:/``, ``models:/``) are settled by the lineage.
    """
    source = evidence.facts.get("version.source")
    run_id = evidence.facts.get("run.id")
    if source is None or run_id is None or _names_its_run(str(source.value)):
        return ()
    home = str(runs.get_run(run_id.value).info.artifact_uri)
    if _below(str(source.value), home):
        return ()
    return (
        Violation(
            rule="GATE-SOURCE",
            severity="critical",
            state="fail",
            message=f"The model's files do not lie in the artifacts of run {run_id.value}, which it names.",
            fix="Register the model from the run that logged it (runs:/RUN/PATH or models:/m-ID).",
        ),
    )


def _names_its_run(source: str) -> bool:
    return source.startswith(("runs:/", "models:/"))


def _below(source: str, home: str) -> bool:
    inner, outer = urlsplit(source), urlsplit(home)
    steps = unquote(inner.path).split("/")
    root = unquote(outer.path).rstrip("/") + "/"
    return (
        (inner.scheme or "file", inner.netloc) == (outer.scheme or "file", outer.netloc)
        and ".." not in steps
        and "/".join(steps).startswith(root)
    )


class Bench:
    """Where decisions are made: a few threads, so that waiting for one can end."""

    def __init__(self, deadline_s: float) -> None:
        """The threads start with the first decision (and so in the process that serves)."""
        self._deadline_s = deadline_s
        self._threads: concurrent.futures.ThreadPoolExecutor | None = None

    def ask(
        self, rulebook: Rulebook, sources: Sources, name: str, version: str, as_of: datetime
    ) -> Verdict:
        """The verdict; whatever goes wrong on the way is a reason to stay closed."""
        if rulebook.pack is None:
            fix = "Mend the file; mlflow-carbon policy check shows all faults."
            return _trouble("GATE-POLICY", rulebook.problem, fix)
        if self._threads is None:
            self._threads = concurrent.futures.ThreadPoolExecutor(_THREADS, "mlflow-carbon-gate")
        # The request's own context goes along: MLflow finds the workspace in it.
        context = contextvars.copy_context()
        waiting = self._threads.submit(
            context.run, judge, rulebook.pack, sources, name, version, as_of
        )
        try:
            return waiting.result(self._deadline_s)
        except concurrent.futures.TimeoutError:
            waiting.cancel()
            problem = f"The evidence could not be read within {self._deadline_s:g} seconds."
        except (MlflowException, CarbonError, OSError) as error:
            problem = f"The evidence could not be read: {error}"
        return _trouble("GATE-EVIDENCE", problem, "Try again once the tracking store answers.")


def _trouble(rule: str, message: str, fix: str) -> Verdict:
    violation = Violation(rule=rule, severity="critical", state="error", message=message, fix=fix)
    return Verdict((violation,))
