"""What is behind protected names now, and does it still stand."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from mlflow.exceptions import MlflowException
from mlflow.store.artifact.utils.models import _parse_model_uri

from mlflow_carbon.errors import CarbonError
from mlflow_carbon.evidence import manifest
from mlflow_carbon.gate.judge import Sources, Verdict, judge
from mlflow_carbon.gate.protection import Protection
from mlflow_carbon.gate.refusal import Violation
from mlflow_carbon.policy.model import Pack

PROMPT_SOURCES = ("prompt-template", "dummy-source")
"""What MLflow (3.17, prompt/constants.py) puts where a model's files would be. A prompt is known by that, not by
its tag: anybody can tag a model, but what a version was made from cannot be changed, and these hold no model."""

PROTECTED_NAME = "protected name"


@dataclass(frozen=True, slots=True)
class Served:
    """A version behind a protected name. ``alias`` is empty where it is a stage or the model's own name."""

    name: str
    version: str
    through: str
    alias: str = ""


@dataclass(frozen=True, slots=True)
class Standing:
    """How a served version stands: what is in its way now, and what became of its files."""

    served: Served
    violations: tuple[Violation, ...]
    files: str
    """``unchanged``, ``not recorded``, ``changed`` or ``not readable``."""

    @property
    def stands(self) -> bool:
        """Whether it would be promoted again."""
        return not self.violations


def served(client: Any, protection: Protection) -> Iterator[Served]:
    """Every version behind a protected alias, stage or model name."""
    token: str | None = None
    while True:
        page = client.search_registered_models(max_results=100, page_token=token)
        for model in page:
            # The search leaves the aliases out (MLflow 3.17): the model itself has them.
            yield from _of_model(client, client.get_registered_model(model.name), protection)
        token = page.token
        if not token:
            return


def _of_model(client: Any, model: Any, protection: Protection) -> Iterator[Served]:
    for alias, version in sorted(model.aliases.items()):
        if protection.covers_alias(alias):
            yield Served(model.name, str(version), f"alias {alias}", alias)
    for version in versions(client, model.name):
        if protection.covers_stage(version.current_stage or "None"):
            yield Served(model.name, str(version.version), f"stage {version.current_stage}")
        if protection.covers_model(model.name):
            yield Served(model.name, str(version.version), PROTECTED_NAME)


def versions(client: Any, name: str) -> list[Any]:
    """The model versions of a registered model that hold a model, newest first."""
    quoted = f'"{name}"' if "'" in name else f"'{name}'"
    found: list[Any] = []
    token: str | None = None
    while True:
        page = client.search_model_versions(f"name = {quoted}", max_results=200, page_token=token)
        found += [one for one in page if one.name == name and one.source not in PROMPT_SOURCES]
        token = page.token
        if not token:
            return sorted(found, key=lambda one: int(one.version), reverse=True)


def standing(pack: Pack, client: Any, what: Served, as_of: datetime) -> Standing:
    """Put the policy to the version again and compare its files with the approved ones."""
    asked = _asked_about(client, what)
    try:
        verdict = judge(pack, Sources(client, client), *asked, as_of)
    except (MlflowException, CarbonError, OSError) as error:
        verdict = Verdict(
            (_violation("GATE-EVIDENCE", f"The evidence could not be read: {error}"),)
        )
    files, violations = _files(client, *asked)
    return Standing(what, (*violations, *verdict.violations), files)


def registered_version(source: str) -> tuple[str, str] | None:
    """(name, version) when the source names one registered version; an alias or stage may point elsewhere soon."""
    try:
        parsed = _parse_model_uri(source)
    except MlflowException:
        return None
    return (parsed.name, str(parsed.version)) if parsed.name and parsed.version else None


def _asked_about(client: Any, what: Served) -> tuple[str, str]:
    """The version whose evidence counts: a copy got into a protected model on that of its original."""
    itself = (what.name, what.version)
    if what.through != PROTECTED_NAME:
        return itself
    original = registered_version(client.get_model_version(*itself).source)
    if original is None:
        return itself
    try:
        client.get_model_version(*original)
    except MlflowException:  # the original was deleted since
        return itself
    return original


def _files(client: Any, name: str, version: str) -> tuple[str, tuple[Violation, ...]]:
    tags = client.get_model_version(name, version).tags
    found = manifest.check(client, name, version, tags.get(manifest.TAG))
    if not found.changes:
        return found.state, ()
    listed, more = "; ".join(found.changes[:3]), len(found.changes) - 3
    words = f"{listed}; {more} more" if more > 0 else listed
    if found.state == "changed":
        words = f"Since the approval {words}."
    return found.state, (_violation("GATE-FILES", words),)


def _violation(rule: str, message: str) -> Violation:
    fix = "Take the version out of use, find out who changed what, and approve again."
    return Violation(rule=rule, severity="critical", state="fail", message=message, fix=fix)
