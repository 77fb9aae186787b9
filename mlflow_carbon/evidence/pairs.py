"""Two versions of a model side by side: a candidate, and the one behind an alias."""

from __future__ import annotations

from dataclasses import replace

from mlflow_carbon.evidence.lineage import Registry, Runs, only_absent, read_version, refused
from mlflow_carbon.evidence.model import Evidence, Subject, SubjectKind
from mlflow_carbon.evidence.trees import text
from mlflow_carbon.schema import Metric, RegistryTag, Tag


def read_pair(runs: Runs, registry: Registry, candidate: Evidence, alias: str) -> Evidence | None:
    """A version against the one behind ``alias``; ``None`` when there is no such other version."""
    name, _, version = candidate.subject.key.rpartition("/")
    try:
        baseline = registry.get_model_version_by_alias(name, alias)
    except refused() as error:
        only_absent(error)
        return None
    if baseline is None or str(baseline.version) == version:
        return None
    other = read_version(runs, registry, name, str(baseline.version))
    return pair_evidence(candidate, other, alias)


def pair_evidence(candidate: Evidence, baseline: Evidence, alias: str) -> Evidence:
    """The facts of a version, and under ``baseline.`` those of the version it is compared with.

    Emissions whose factors mean different things, or are of different years, are not put beside one another,
    unless somebody asks for it by ``RegistryTag.ANY_BASIS`` on the candidate. Energy always is.
    """
    kept = baseline.facts
    if _basis(candidate) != _basis(baseline) and not text(candidate, _ANY_BASIS):
        kept = {key: fact for key, fact in kept.items() if key not in _EMISSIONS}
    facts = dict(candidate.facts)
    facts.update({f"baseline.{key}": fact for key, fact in kept.items()})
    subject = Subject(
        SubjectKind.PAIR,
        f"{candidate.subject.key}@{alias}",
        f"{candidate.subject.label} against {baseline.subject.label} ({alias})",
    )
    return replace(candidate, subject=subject, facts=facts)


_EMISSIONS = frozenset(
    (
        "lineage.emissions_kg",
        *(
            f"metric.{name}"
            for name in (Metric.EMISSIONS_KG_LOW, Metric.EMISSIONS_KG, Metric.EMISSIONS_KG_HIGH)
        ),
    )
)
_ANY_BASIS = f"version_tag.{RegistryTag.ANY_BASIS}"


def _basis(version: Evidence) -> tuple[str, ...]:
    """What the emission factor of the training run means, and its year."""
    return tuple(text(version, f"tag.{tag}") for tag in (Tag.FACTOR_BASIS, Tag.FACTOR_YEAR))
