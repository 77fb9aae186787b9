"""Numbers and texts as the formats want them."""

from __future__ import annotations

import json
import unicodedata
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid5

from mlflow_carbon.export.record import ModelRecord

_OURS = UUID("6f0f2b1e-7a65-5c0d-9f53-3c1f6a7f3a10")
"""Name space of identifiers made by these exports; fixed, so that an export can be repeated."""


def identifier(record: ModelRecord, what: str) -> UUID:
    """The same for the same version and training run, in every export."""
    name = f"{record.key}/{record.run_id}/{what}"
    return uuid5(_OURS, name.encode("utf-8", "backslashreplace").decode())


def rounded(value: float) -> float:
    """To six significant digits: more were never measured."""
    return float(f"{value:.6g}")


def two_digits(value: float) -> str:
    """Two significant figures and no exponent, as the GPAI documentation form asks: ``0.0042``."""
    return format(Decimal(f"{value:.1e}"), "f")


def to_json(document: Any) -> str:
    """A document with a line end. Every text in it is made plain: it may come from anywhere."""
    return json.dumps(_plain(document), indent=2, ensure_ascii=False) + "\n"


def _plain(tree: Any) -> Any:
    if isinstance(tree, str):
        return plain(tree)
    if isinstance(tree, dict):
        return {plain(key): _plain(value) for key, value in tree.items()}
    if isinstance(tree, list):
        return [_plain(value) for value in tree]
    return tree


def plain(text: str, limit: int = 1000) -> str:
    """Without control characters, which could change how a document is shown, and not too long."""
    kept = "".join(
        character if unicodedata.category(character) not in ("Cc", "Cf", "Cs") else " "
        for character in text[:limit]
    )
    return " ".join(kept.split())
