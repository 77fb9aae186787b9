"""Which aliases, stages and registered models are behind the gate."""

from __future__ import annotations

import functools
import re
import unicodedata
from dataclasses import dataclass

from mlflow_carbon.policy.model import Gate

_STAGES_AT_REST = ("none", "archived")


def plain(name: str) -> str:
    """A name as two people would read it out: one Unicode form, no case, no surrounding space."""
    return unicodedata.normalize("NFKC", name).casefold().strip()


@dataclass(frozen=True, slots=True)
class Protection:
    """What is protected: patterns with ``*``, compared without regard to case, width or spaces."""

    aliases: tuple[str, ...]
    stages: tuple[str, ...]
    models: tuple[str, ...]

    def covers_alias(self, alias: str) -> bool:
        """Whether the alias is protected.

        An alias with letters outside ASCII always is: MLflow accepts one that looks exactly
        like ``champion`` but is written with other letters.
        """
        return not alias.strip().isascii() or _any(self.aliases, alias)

    def covers_stage(self, stage: str) -> bool:
        """Whether the stage is protected."""
        return _any(self.stages, stage) and plain(stage) not in _STAGES_AT_REST

    def covers_model(self, name: str) -> bool:
        """Whether versions may come into being under this registered model's name only through the gate."""
        return _any(self.models, name)


def _any(patterns: tuple[str, ...], name: str) -> bool:
    return bool(patterns) and _regex(patterns).fullmatch(plain(name)) is not None


@functools.cache
def _regex(patterns: tuple[str, ...]) -> re.Pattern[str]:
    """One expression for all patterns; every call of the registry comes by here."""
    each = (".*".join(map(re.escape, plain(pattern).split("*"))) for pattern in patterns)
    return re.compile("|".join(each))


def of(gate: Gate) -> Protection:
    """What a policy's gate section protects."""
    return Protection(gate.aliases, gate.stages, gate.models)


WITHOUT_POLICY = Protection(aliases=("*",), stages=("*",), models=("*prod*",))
"""What is closed while the gate's policy cannot be read. Nobody then knows which names it protects, so every
alias and every stage is, and every model whose name speaks of production. Training, registering, reading go on."""
