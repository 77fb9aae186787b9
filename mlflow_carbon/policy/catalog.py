"""Frameworks as data: their controls in our own words, and what kind of evidence each can have."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from functools import lru_cache
from pathlib import Path

from mlflow_carbon import resources
from mlflow_carbon.errors import PolicyError
from mlflow_carbon.policy.shape import Field, Kind, Problems, Shape, Taken, take
from mlflow_carbon.policy.yaml_tree import read_tree

CLASSES: Mapping[str, str] = {
    "M": "decidable from recorded evidence",
    "M+P": "partly decidable; partly only that a document exists",
    "M+A": "partly decidable; partly a named person's attestation",
    "P": "only that a document exists and is fresh",
    "A": "a named person's attestation only",
    "A/P": "an attestation, and that a document exists",
    "N": "not assessable by a tool",
}


@dataclass(frozen=True, slots=True)
class Control:
    """One control. ``says`` is our paraphrase, never the framework's text."""

    id: str
    says: str
    cls: str
    """A key of ``CLASSES``."""
    evidence: str
    applies_from: date | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Framework:
    """One version of one framework. ``confirmed`` is false where ids come from secondary sources."""

    id: str
    version: str
    title: str
    publisher: str
    source: str
    checked_on: date
    confirmed: bool
    controls: Mapping[str, Control]
    note: str = ""

    @property
    def ref(self) -> str:
        """``id@version``, as packs write it."""
        return f"{self.id}@{self.version}"


_CONTROL: Shape = {
    "id": Field(
        Kind.TEXT,
        "as the framework numbers it, without spaces",
        required=True,
        pattern=r"[A-Za-z0-9().-]+",
        example="MEASURE-2.12",
    ),
    "says": Field(Kind.TEXT, "our own paraphrase", required=True),
    "class": Field(Kind.TEXT, "kind of evidence", required=True, choices=tuple(CLASSES)),
    "evidence": Field(Kind.TEXT, "what we would read", required=True),
    "applies_from": Field(Kind.DATE, "from when it binds"),
}
_FRAMEWORK: Shape = {
    "id": Field(Kind.TEXT, "short name", required=True),
    "version": Field(Kind.TEXT, "version", required=True),
    "title": Field(Kind.TEXT, "full name", required=True),
    "publisher": Field(Kind.TEXT, "who publishes it", required=True),
    "source": Field(Kind.TEXT, "where the ids were read", required=True),
    "checked_on": Field(Kind.DATE, "when", required=True),
    "confirmed": Field(
        Kind.FLAG, "whether the ids were checked against the original", required=True
    ),
    "note": Field(Kind.TEXT, "what a reader must know"),
    "controls": Field(Kind.SHAPES, "the controls", required=True, shape=_CONTROL),
}


def read_framework(path: Path) -> Framework:
    """A framework file.

    Raises:
        PolicyError: the file is malformed or numbers a control twice.
    """
    tree, found = read_tree(path.read_text(encoding="utf-8"), str(path))
    problems = Problems(found)
    taken = take(tree, _FRAMEWORK, problems, "the framework")
    controls: dict[str, Control] = {}
    for entry in taken.get("controls", []):
        control = _control(entry)
        if control.id in controls:
            problems.add(entry.at, f"the control {control.id!r} stands here twice.")
        controls[control.id] = control
    if problems.found:
        raise PolicyError(problems.found)
    texts = {key: taken.values[key] for key in ("id", "version", "title", "publisher", "source")}
    return Framework(
        **texts,
        checked_on=taken.values["checked_on"],
        confirmed=taken.values["confirmed"],
        controls=controls,
        note=taken.get("note", ""),
    )


def _control(entry: Taken) -> Control:
    return Control(
        id=entry.get("id", ""),
        says=entry.get("says", ""),
        cls=entry.get("class", ""),
        evidence=entry.get("evidence", ""),
        applies_from=entry.get("applies_from"),
    )


@lru_cache(maxsize=1)
def frameworks() -> Mapping[str, Framework]:
    """The shipped frameworks by ``id@version``."""
    folder = resources.policies() / "frameworks"
    read = (read_framework(path) for path in sorted(folder.glob("*.yaml")))
    return {framework.ref: framework for framework in read}
