"""A policy file as a pack: everything wrong in it is told at once, each at its line and column."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from mlflow_carbon import resources
from mlflow_carbon.errors import DataError, Location, PolicyError, Problem
from mlflow_carbon.policy import layout
from mlflow_carbon.policy.catalog import Framework, frameworks
from mlflow_carbon.policy.conditions import Reader
from mlflow_carbon.policy.model import Gate, Operand, Pack, Parameter, Rule, Severity, Waiver
from mlflow_carbon.policy.overlay import extended
from mlflow_carbon.policy.reuse import adapted
from mlflow_carbon.policy.rules import RuleReader
from mlflow_carbon.policy.shape import FaultError, Problems, Taken, did_you_mean, take
from mlflow_carbon.policy.yaml_tree import LIMIT_BYTES, read_tree

_T = TypeVar("_T")
_UNUSABLE: Mapping[str, Operand] = {"number": 1, "text": "-", "list": ("-",)}
_A_LIST = " Write it like [a, b], with no empty item."


def shipped_packs() -> dict[str, Path]:
    """The packs that come with the package, by name."""
    return {path.stem: path for path in sorted((resources.policies() / "packs").glob("*.yaml"))}


def load_pack(name_or_path: str | Path, parameters: Mapping[str, object] | None = None) -> Pack:
    """A shipped pack by its name, or a policy file, with ``parameters`` instead of the defaults.

    Raises:
        PolicyError: the file is refused; holds every fault found.
        DataError: there is no such pack or file, or it cannot be read.
    """
    shipped = shipped_packs()
    path = shipped.get(str(name_or_path), Path(name_or_path))
    if not path.is_file():
        hint = did_you_mean(str(name_or_path), shipped)
        names = ", ".join(shipped)
        raise DataError(
            f"{name_or_path}: no such policy file or shipped pack.{hint} Shipped: {names}."
        )
    return read_pack(_bytes(path), str(path), parameters or {})


def _bytes(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(LIMIT_BYTES + 1)
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}.") from None


def read_pack(
    content: bytes, file: str, parameters: Mapping[str, object], chain: tuple[Path, ...] = ()
) -> Pack:
    """The pack written in ``content``; ``file`` names it in messages.

    ``chain``: the packs that are taking rules over from this one; parameters may then be theirs.

    Raises:
        PolicyError: holds every fault found.
    """
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        message = "not UTF-8 text; save the file as UTF-8."
        raise PolicyError([Problem(Location(file, line, 1), message)]) from None
    tree, found = read_tree(text, file)
    problems = Problems(found)
    taken = take(tree, layout.PACK, problems, "the policy")
    pack = _Builder(taken, problems, (*chain, Path(file).resolve())).pack(file, parameters)
    if problems.found:
        raise PolicyError(problems.found)
    return replace(pack, sha256=hashlib.sha256(content).hexdigest())


class _Builder:
    """Puts the parts of one file together."""

    def __init__(self, taken: Taken, problems: Problems, chain: tuple[Path, ...]) -> None:
        self._taken, self._problems, self._chain = taken, problems, chain
        self._loosened: list[str] = []
        self._whole = True
        """Whether all rules that the file names could be read."""

    def pack(self, file: str, given: Mapping[str, object]) -> Pack:
        taken = self._taken
        metadata: Taken = taken.get("metadata", Taken(taken.at))
        listed = self._frameworks()
        base = self._base(given)
        taken_over, inherited = self._taken_over(given, listed)
        if base is not None:
            taken_over, inherited = [*base.rules, *taken_over], {**base.parameters, **inherited}
        own = self._parameters(given, inherited)
        reader = RuleReader(own, listed, self._problems)
        before = len(self._problems.found)
        rules = [*taken_over, *filter(None, map(reader.read, taken.get("rules", [])))]
        self._whole = self._whole and len(self._problems.found) == before
        self._distinct("rule", rules)
        if not rules and not self._problems.found:
            self._problems.add(
                taken.at, "the policy has no rules; list some under 'rules' or 'use'."
            )
        waivers = _together(
            base.waivers if base else (), self._waivers(own, {rule.id: rule for rule in rules})
        )
        self._distinct("waiver", waivers)
        return Pack(
            id=metadata.get("id", ""),
            version=metadata.get("version", ""),
            title=metadata.get("title", ""),
            owner=metadata.get("owner", ""),
            describe=metadata.get("describe", ""),
            frameworks=_together(base.frameworks if base else (), taken.get("frameworks", ())),
            parameters={**inherited, **own},
            rules=tuple(rules),
            waivers=waivers,
            gate=self._gate() or (base.gate if base else None),
            file=file,
            loosened=_together(base.loosened if base else (), self._loosened),
            reviewed_on=metadata.get("reviewed_on"),
            review_every_days=metadata.get("review_every_days"),
        )

    def _base(self, given: Mapping[str, object]) -> Pack | None:
        """The pack this one extends, if it does."""
        for key in ("set", "adjust"):
            if key in self._taken.places and "extends" not in self._taken.places:
                self._problems.add(
                    self._taken.place(key), f"{key!r} has a use only with 'extends'."
                )
        if "extends" not in self._taken.values:
            return None

        def read(path: Path, values: Mapping[str, object]) -> Pack:
            if path.resolve() in self._chain:
                message = (
                    f"{path.name!r} is being read already: packs extend one another in a circle."
                )
                raise FaultError(self._taken.place("extends"), message)
            return read_pack(_bytes(path), str(path), {**values, **given}, chain=self._chain)

        base = extended(self._taken, self._problems, shipped_packs(), read)
        self._whole = self._whole and base is not None
        return base

    def _frameworks(self) -> dict[str, Framework]:
        listed = {}
        for ref in self._taken.get("frameworks", ()):
            if ref in frameworks():
                listed[frameworks()[ref].id] = frameworks()[ref]
            else:
                hint = did_you_mean(ref, frameworks()) or f" Known: {', '.join(frameworks())}."
                at = self._taken.place("frameworks")
                self._problems.add(at, f"no framework is called {ref[:60]!r}.{hint}")
        return listed

    def _taken_over(
        self, given: Mapping[str, object], listed: Mapping[str, Framework]
    ) -> tuple[list[Rule], dict[str, Parameter]]:
        """The rules named under ``use``, and the parameters they came with."""
        reader = RuleReader({}, listed, self._problems)
        rules: list[Rule] = []
        inherited: dict[str, Parameter] = {}
        packs: dict[str, Pack] = {}
        for entry in self._taken.get("use", []):
            name, _, rule_id = str(entry.get("rule", "")).partition("/")
            if not rule_id:
                continue
            pack = packs[name] if name in packs else self._source(name, entry, given)
            self._whole = self._whole and pack is not None
            if pack is None:
                continue
            packs[name] = pack
            found = {rule.id: rule for rule in pack.rules}
            if rule_id not in found:
                hint = did_you_mean(rule_id, found)
                message = f"the pack {name!r} has no rule {rule_id!r}.{hint}"
                self._problems.add(entry.place("rule"), message)
                continue
            try:
                more = tuple(filter(None, map(reader.control, entry.get("controls", []))))
                rule, laxer = adapted(found[rule_id], entry, name, more)
            except FaultError as fault:
                self._problems.add(fault.at, fault.message)
                continue
            rules.append(rule)
            inherited.update({name: pack.parameters[name] for name in rule.parameters})
            self._loosened.extend([laxer] if laxer else [])
        return rules, inherited

    def _source(self, name: str, entry: Taken, given: Mapping[str, object]) -> Pack | None:
        shipped = shipped_packs()
        at = entry.place("rule")
        if name not in shipped:
            hint = did_you_mean(name, shipped)
            self._problems.add(at, f"no shipped pack is called {name!r}.{hint}")
            return None
        path = shipped[name].resolve()
        if path in self._chain:
            self._problems.add(at, f"{name!r} is being read already: packs take over in a circle.")
            return None
        return read_pack(path.read_bytes(), str(shipped[name]), given, chain=self._chain)

    def _parameters(
        self, given: Mapping[str, object], inherited: Mapping[str, Parameter]
    ) -> dict[str, Parameter]:
        declared: dict[str, Taken] = self._taken.get("parameters", {})
        for name in given:
            if len(self._chain) == 1 and name not in declared and name not in inherited:
                hint = did_you_mean(name, [*declared, *inherited])
                message = f"the pack has no parameter {name[:60]!r} to set.{hint}"
                self._problems.add(self._taken.place("parameters"), message)
        for name in declared:
            if name in inherited:
                message = (
                    f"the parameter {name[:60]!r} belongs to a rule taken over, which keeps its own value. "
                    "Give this one another name; to change the other, use 'extends' and 'set'."
                )
                self._problems.add(declared[name].at, message)
        read = (self._parameter(name, taken, given) for name, taken in declared.items())
        return {parameter.name: parameter for parameter in read if parameter is not None}

    def _parameter(self, name: str, taken: Taken, given: Mapping[str, object]) -> Parameter | None:
        if "type" not in taken.values:
            return None
        kind = taken.values["type"]
        raw = given.get(name, taken.get("default"))
        value = _typed(raw, kind)
        if value is None:
            if raw is not None:
                at, seen = taken.place("default"), str(raw)[:60]
                message = f"the parameter {name!r} is a {kind}; {seen!r} is not."
                self._problems.add(at, f"{message}{_A_LIST if kind == 'list' else ''}")
            value = _UNUSABLE[kind]  # so that its uses are not told as faults of their own
        else:
            self._bounded(name, value, taken)
        low, high = taken.get("minimum"), taken.get("maximum")
        return Parameter(
            name=name,
            type=kind,
            value=value,
            unit=taken.get("unit", ""),
            minimum=low,
            maximum=high,
            describe=taken.get("describe", ""),
        )

    def _bounded(self, name: str, value: Operand, taken: Taken) -> None:
        """Note bounds that make no sense, or else that the value is outside of them."""
        low, high = taken.get("minimum"), taken.get("maximum")
        message = None
        if not isinstance(value, (int, float)):
            if low is not None or high is not None:
                kind = taken.values["type"]
                message = f"the parameter {name!r} is a {kind}; only a number has bounds."
        elif low is not None and high is not None and low > high:
            message = f"the parameter {name!r} has a minimum, {low}, above its maximum, {high}."
        elif low is not None and value < low:
            message = f"the parameter {name!r} must be at least {low}; it is {value}."
        elif high is not None and value > high:
            message = f"the parameter {name!r} must be at most {high}; it is {value}."
        if message is not None:
            self._problems.add(taken.place("default"), message)

    def _distinct(self, what: str, listed: Iterable[Rule | Waiver]) -> None:
        seen: dict[str, Rule | Waiver] = {}
        for one in listed:
            if one.id in seen:
                first = seen[one.id].at
                self._problems.add(
                    one.at, f"the {what} {one.id} stands here twice (first at {first})."
                )
            seen[one.id] = one

    def _gate(self) -> Gate | None:
        taken: Taken | None = self._taken.get("gate")
        if taken is None:
            return None
        gate = Gate(
            aliases=taken.get("aliases", ()),
            stages=taken.get("stages", ()),
            models=taken.get("models", ()),
            blocks_at=Severity(taken.get("blocks_at", Severity.HIGH.value)),
            auditors=taken.get("auditors", ()),
            approvals=taken.get("approvals", 0),
            approvers=taken.get("approvers", ()),
            overriders=taken.get("overriders", ()),
            override_max_days=taken.get("override_max_days", 7),
            verdict_max_age_hours=taken.get("verdict_max_age_hours"),
            link=taken.get("link", ""),
        )
        if not (gate.aliases or gate.stages or gate.models):
            message = "the gate protects nothing: name 'aliases', 'stages' or 'models'."
            self._problems.add(taken.at, message)
        return gate

    def _waivers(
        self, own: Mapping[str, Parameter], rules: Mapping[str, Rule]
    ) -> tuple[Waiver, ...]:
        read = (self._waiver(taken, own, rules) for taken in self._taken.get("waivers", []))
        return tuple(waiver for waiver in read if waiver is not None)

    def _waiver(
        self, taken: Taken, own: Mapping[str, Parameter], rules: Mapping[str, Rule]
    ) -> Waiver | None:
        before = len(self._problems.found)
        for rule_id in taken.get("rules", ()):
            if rule_id not in rules and self._whole:
                hint = did_you_mean(rule_id, rules)
                self._problems.add(
                    taken.place("rules"), f"the pack has no rule {rule_id[:60]!r}.{hint}"
                )
        if not taken.get("rules", ("",)):
            self._problems.add(taken.place("rules"), "a waiver names the rules it suspends.")
        values = taken.values
        if _same(values.get("requested_by", ""), values.get("approved_by", "-")):
            message = "the approver of a waiver is somebody else than the requester."
            self._problems.add(taken.place("approved_by"), message)
        if (
            "expires" in values
            and "approved_on" in values
            and values["expires"] < values["approved_on"]
        ):
            self._problems.add(taken.place("expires"), "the waiver expires before it is approved.")
        match = self._match(taken, own, rules)
        needed = ("id", "rules", "reason", "requested_by", "approved_by", "approved_on", "expires")
        if len(self._problems.found) > before or not all(key in values for key in needed):
            return None
        picked: dict[str, Any] = {key: values[key] for key in needed}
        for key in ("ticket", "compensating_control"):
            picked[key] = values.get(key, "")
        return Waiver(**picked, match=match, at=taken.place("id"))

    def _match(self, taken: Taken, own: Mapping[str, Parameter], rules: Mapping[str, Rule]) -> Any:
        if "match" not in taken.values:
            return None
        scopes = {rules[rule_id].scope for rule_id in taken.get("rules", ()) if rule_id in rules}
        if not scopes and not self._whole:
            return None
        if len(scopes) != 1:
            message = "a waiver with 'match' names rules of one scope only."
            self._problems.add(taken.place("match"), message)
            return None
        return Reader(scopes.pop(), own, self._problems).read(taken.values["match"])


def _together(first: Iterable[_T], second: Iterable[_T]) -> tuple[_T, ...]:
    """Both in this order, each once."""
    return tuple(dict.fromkeys((*first, *second)))


def _same(one: str, other: str) -> bool:
    return one.strip().casefold() == other.strip().casefold()


def _typed(value: object, kind: str) -> Operand | None:
    """A parameter's value as its type; texts from a command line are read; ``None``: not possible."""
    if kind == "number":
        return _finite(value)
    if kind == "text":
        return str(value) if isinstance(value, (str, int, float)) and str(value).strip() else None
    items = value.split(",") if isinstance(value, str) else value
    if not isinstance(items, (list, tuple)) or not items or not all(str(i).strip() for i in items):
        return None
    return tuple(item.strip() if isinstance(item, str) else item for item in items)


def _finite(value: object) -> int | float | None:
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    try:
        read = float(value)
    except ValueError:
        return None
    if not math.isfinite(read):
        return None
    return int(read) if read.is_integer() and abs(read) < 2**53 else read
