"""Which facts a rule may ask for: the vocabulary of policies, per scope, with types."""

from __future__ import annotations

from mlflow_carbon import schema
from mlflow_carbon.evidence.model import CLOSED_FACTS, OPEN_NAMESPACES, FactType, SubjectKind
from mlflow_carbon.policy.shape import did_you_mean

_RUN = ("metric", "param", "tag", "run", "seal")
_VERSION = ("version", "version_tag", "model", "model_tag", "lineage", *_RUN)
_OF_SCOPE: dict[SubjectKind, tuple[str, ...]] = {
    SubjectKind.RUN: _RUN,
    SubjectKind.DATASET_INPUT: ("dataset", *_RUN),
    SubjectKind.MODEL_VERSION: _VERSION,
    SubjectKind.REGISTERED_MODEL: ("model", "model_tag"),
    SubjectKind.PAIR: _VERSION,
    SubjectKind.POLICY: ("policy",),
}
BASELINE = "baseline."
"""Prefix, in scope ``pair``, of the facts of the version a candidate is compared with."""

MEMBERS: dict[str, SubjectKind] = {"datasets": SubjectKind.DATASET_INPUT}
"""What ``for_each`` can go through, and what each member is."""

MATCHED: dict[str, str] = {"metrics": "metric", "params": "param", "tags": "tag"}
"""What ``for_each`` can go through by a pattern of keys, and the namespace of each."""

_OF_MEMBERS = {
    "datasets": ("dataset",),
    "metrics": ("each",),
    "params": ("each",),
    "tags": ("each",),
    "any": ("dataset", "each"),
}

_EACH = {
    "each.name": FactType.TEXT,
    "each.value": FactType.NUMBER,
    "each.baseline": FactType.NUMBER,
    "each.text": FactType.TEXT,
}

NAMESPACES = tuple(
    dict.fromkeys((*OPEN_NAMESPACES, *(name.split(".")[0] for name in CLOSED_FACTS), "each"))
)


def _names(holder: type) -> frozenset[str]:
    return frozenset(
        v for k, v in vars(holder).items() if not k.startswith("_") and isinstance(v, str)
    )


_RESERVED = {
    "metric": (schema.PREFIX_METRIC, _names(schema.Metric), ()),
    "tag": (schema.PREFIX, _names(schema.Tag), (schema.Tag.CARD_PREFIX,)),
    "param": (schema.PREFIX, _names(schema.Param), (f"{schema.Param.EVIDENCE_SHA256}.",)),
    "version_tag": (
        schema.PREFIX,
        _names(schema.RegistryTag),
        (schema.RegistryTag.ATTESTATION_PREFIX,),
    ),
}
"""namespace -> (prefix that is ours, names we write, prefixes with a free end)."""


def namespaces(scope: SubjectKind) -> tuple[str, ...]:
    """The namespaces of facts that subjects of this scope have."""
    return _OF_SCOPE[scope]


def fact_type(fact: str) -> FactType:
    """The type of a known fact: metrics are numbers, the other open namespaces hold text."""
    name = fact.removeprefix(BASELINE)
    if name in CLOSED_FACTS or name in _EACH:
        return CLOSED_FACTS[name] if name in CLOSED_FACTS else _EACH[name]
    return FactType.NUMBER if name.startswith("metric.") else FactType.TEXT


def is_open(fact: str) -> bool:
    """Whether the fact is from a namespace that takes any key."""
    return fact.removeprefix(BASELINE).split(".", 1)[0] in OPEN_NAMESPACES


def fault(fact: str, scope: SubjectKind, *, inside: str = "") -> str | None:
    """What is wrong with asking for this fact in a rule of this scope; ``None``: nothing.

    ``inside``: what the surrounding ``for_each`` goes through; ``any`` in a sentence about its members.
    """
    name = fact
    if fact.startswith(BASELINE):
        if scope is not SubjectKind.PAIR:
            return f"{fact!r}: only rules of scope 'pair' have a baseline."
        name = fact.removeprefix(BASELINE)
    namespace, _, key = name.partition(".")
    if namespace not in NAMESPACES or not key:
        return f"no fact is called {fact[:80]!r}.{did_you_mean(name, [*CLOSED_FACTS, *NAMESPACES])}"
    allowed = (*_OF_SCOPE[scope], *_OF_MEMBERS.get(inside, ()))
    if namespace not in allowed:
        return f"a rule of scope {scope.value!r} has no {namespace!r} facts here; it has {', '.join(allowed)}."
    if namespace == "each":
        return _unknown_each(name, scope, inside)
    return _unknown_key(namespace, key)


def _unknown_each(name: str, scope: SubjectKind, inside: str) -> str | None:
    of_number = ("each.value", "each.baseline") if scope is SubjectKind.PAIR else ("each.value",)
    known = ("each.name", *(of_number if inside == "metrics" else ("each.text",)))
    if inside == "any":
        known = tuple(_EACH)
    return None if name in known else f"{name!r} is not known here; known: {', '.join(known)}."


def _unknown_key(namespace: str, key: str) -> str | None:
    if namespace not in OPEN_NAMESPACES:
        if f"{namespace}.{key}" in CLOSED_FACTS:
            return None
        known = [name.split(".", 1)[1] for name in CLOSED_FACTS if name.startswith(f"{namespace}.")]
        hint = did_you_mean(key, known) or f" Known: {', '.join(known)}."
        return f"no fact of {namespace!r} is called {key[:80]!r}.{hint}"
    if "$" in key:
        return f"{key[:80]!r}: a parameter cannot stand for a name; write the {namespace}'s own."
    prefix, known_names, free = _RESERVED.get(namespace, ("", frozenset(), ()))
    reserved = bool(prefix) and key.startswith(prefix)
    if not reserved or key in known_names or any(key.startswith(p) and key != p for p in free):
        return None
    hint = did_you_mean(key, known_names)
    return f"the {namespace} {key[:80]!r} is not one this package writes.{hint}"
