"""The policy the gate goes by, read again whenever its file changes."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import PurePath

from mlflow_carbon.errors import CarbonError, PolicyError
from mlflow_carbon.gate import protection
from mlflow_carbon.gate.protection import WITHOUT_POLICY, Protection
from mlflow_carbon.policy.load import load_pack
from mlflow_carbon.policy.model import Pack


@dataclass(frozen=True, slots=True)
class Rulebook:
    """What is protected, and the pack that decides. Without a pack ``problem`` says why, and nothing passes."""

    label: str
    """The pack's id and version; of a policy that cannot be read, the setting's own text."""
    protection: Protection
    pack: Pack | None
    problem: str = ""


def read(policy: str) -> Rulebook:
    """The rulebook of a pack name or file. A policy that cannot be used closes what it might protect."""
    try:
        pack = load_pack(policy)
    except PolicyError as error:
        return Rulebook(policy, WITHOUT_POLICY, None, _first(error))
    except (CarbonError, OSError) as error:
        return Rulebook(policy, WITHOUT_POLICY, None, f"the gate's policy cannot be read: {error}")
    if pack.gate is None:
        return Rulebook(
            policy, WITHOUT_POLICY, None, f"{pack.file} has no gate section: it protects nothing"
        )
    return Rulebook(f"{pack.id} {pack.version}", protection.of(pack.gate), pack)


def _first(refused: PolicyError) -> str:
    """The first fault and how many there are: a refusal has no room for all, and paths can be long."""
    first, count = refused.problems[0], len(refused.problems)
    place = f"{PurePath(first.at.file).name}:{first.at.line}:{first.at.column}"
    counted = "1 fault" if count == 1 else f"{count} faults, the first"
    return f"the gate's policy cannot be read: {counted}: {place}: {first.message}"


class RulebookReader:
    """Keeps the rulebook and reads it again when the file's time, size or inode changed.

    A broken policy is tried again on every question, so that mending the file is enough.
    A pack named in ``extends`` is not watched: restart the server after changing that one.
    """

    def __init__(self, policy: str) -> None:
        """Nothing is read before the first question."""
        self._policy = policy
        self._known: tuple[tuple[int, ...], Rulebook] | None = None

    def current(self) -> Rulebook:
        """The rulebook as the file stands now."""
        if self._known is not None and self._known[0] == _mark(self._known[1]):
            return self._known[1]
        rulebook = read(self._policy)
        mark = _mark(rulebook)
        self._known = (mark, rulebook) if mark else None
        return rulebook


def _mark(rulebook: Rulebook) -> tuple[int, ...]:
    if rulebook.pack is None:
        return ()
    try:
        stat = os.stat(rulebook.pack.file)  # noqa: PTH116 - a third of the cost of pathlib, at every call
    except OSError:
        return ()
    return (stat.st_mtime_ns, stat.st_size, stat.st_ino)
