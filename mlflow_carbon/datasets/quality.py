"""What is in a dataset, in counts: duplicates, missing values, classes, columns that look like personal data.

Only counts and column names leave this module, never a value: except the names of the classes of the
target column, which are few.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from mlflow_carbon.datasets.arrays import as_array
from mlflow_carbon.datasets.rows import RowHashes
from mlflow_carbon.datasets.tables import as_frame, as_table

MAX_CLASSES = 20
MAX_COLUMNS = 1000
SCANNED_ROWS = 1000
"""Rows whose values are looked at for personal data."""
LEAST_SHARE = 0.2
"""Of the scanned values of a column that must look like one kind of personal data."""

_NAMES = {
    "contact": r"e_?mails?|(tele)?phone(_?(no|number))?|mobile|fax",
    "person": r"(first|last|full|sur|given|family|maiden|user)_?name|surname",
    "address": r"(street|home|postal|mailing)?_?address|street|zip(_?code)?|post(al)?_?code",
    "location": r"lat(itude)?|lon(gitude)?|lng|gps|geo(location)?",
    "birth": r"(date_?of_?)?birth(_?(date|day|year))?|dob|age",
    "identity": r"ssn|social_?security(_?number)?|passport(_?(no|number))?|tax_?id|nino|national_?id|"
    r"driver_?s?_?licen[sc]e|ip(_?address)?|device_?id|patient_?id",
    "money": r"iban|(credit_?)?card_?(no|number)|account_?(no|number)|salary|income",
    "health": r"diagnosis|disease|disability|medication|blood_?(type|pressure|group)|pregnan(t|cy)|hiv|icd(_?10)?",
    "gender": r"gender|sex",
    "orientation": r"sexual_?orientation",
    "ethnicity": r"race|ethnicity|ethnic_?(group|origin)|nationality|skin_?colou?r",
    "belief": r"religion|belief|caste|politic(al|s)?(_?(party|opinion|view)s?)?|trade_?union|union_?member",
    "biometric": r"fingerprint|iris_(scan|code)|face_?(id|embedding|encoding)|voice_?print|dna|genome",
}
_NAME_PATTERNS = {kind: re.compile(f"(.*_)?({words})(_.*)?") for kind, words in _NAMES.items()}

_VALUES = {
    "email": re.compile(r"[^@\s]{1,64}@[^@\s]{1,190}\.[A-Za-z]{2,24}"),
    "iban": re.compile(r"[A-Z]{2}\d{2}[A-Z0-9]{11,30}"),
    "card number": re.compile(r"(?:\d[ -]?){12,18}\d"),
    "ip address": re.compile(r"(?:\d{1,3}\.){3}\d{1,3}"),
    "us social security number": re.compile(r"\d{3}-\d{2}-\d{4}"),
    "phone number": re.compile(r"\+\d[\d ()/-]{7,18}\d"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Sensitive:
    """A column that looks like personal data. A pattern is a hint, not a verdict."""

    column: str
    kind: str
    found_by: str
    """``name`` of the column, or its ``values``."""
    matched: int | None = None
    scanned: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Quality:
    """Counts over all rows; personal data over a sample of them."""

    rows: int
    columns: int
    duplicate_rows: int | None = None
    missing: Mapping[str, int] = field(default_factory=dict)
    """Column -> empty cells, only where there are any."""
    classes: Mapping[str, int] = field(default_factory=dict)
    """Value of the target column -> rows, the most frequent ones."""
    other_classes: int = 0
    sensitive: tuple[Sensitive, ...] = ()

    @property
    def smallest_class_share(self) -> float | None:
        """Of the rows; ``None`` where there are no classes."""
        total = sum(self.classes.values())
        if not total or self.other_classes:
            return None
        return min(self.classes.values()) / total

    def to_json(self) -> dict[str, Any]:
        """For the provenance record."""
        return asdict(self)


def inspect(
    data: object, *, hashes: RowHashes | str = "", targets: object = None
) -> Quality | None:
    """The counts of a frame or array; ``None`` for what has no rows and columns, or is too large.

    ``targets`` is the name of the target column, or the targets themselves.
    """
    import pandas as pd

    frame = _frame(data)
    if frame is None:
        return None
    duplicates = hashes.duplicates if isinstance(hashes, RowHashes) else None
    counts = frame.isna().sum()
    missing = {
        _shown(name): int(n) for name, n in zip(frame.columns, counts, strict=True) if int(n)
    }
    if isinstance(targets, str):
        targets = frame[targets] if targets in frame.columns else None
    elif targets is not None:
        array = as_array(targets)
        targets = pd.Series(array) if array is not None and array.ndim == 1 else None
    classes, others = _classes(targets)
    return Quality(
        rows=len(frame),
        columns=frame.shape[1],
        duplicate_rows=duplicates,
        missing=missing,
        classes=classes,
        other_classes=others,
        sensitive=_sensitive(frame.iloc[:, :MAX_COLUMNS]),
    )


def _frame(data: object) -> Any:
    import pandas as pd

    table = as_table(data)
    if table is not None:
        return as_frame(table)
    array = as_array(data)
    if array is None or array.ndim != 2:
        return None
    return pd.DataFrame(array)


def _classes(target: Any) -> tuple[dict[str, int], int]:
    """Rows per class; numbers with many values are no classes."""
    if target is None or target.nunique(dropna=True) > max(MAX_CLASSES, len(target) // 20):
        return {}, 0
    counts = target.value_counts(dropna=True)
    top = {_shown(value): int(n) for value, n in counts.iloc[:MAX_CLASSES].items()}
    return top, max(0, len(counts) - MAX_CLASSES)


def _sensitive(frame: Any) -> tuple[Sensitive, ...]:
    found = []
    step = max(1, len(frame) // SCANNED_ROWS)
    some = frame.iloc[::step].iloc[:SCANNED_ROWS]
    for place, name in enumerate(frame.columns):
        if kind := kind_of_name(str(name)):
            found.append(Sensitive(column=_shown(name), kind=kind, found_by="name"))
        found.extend(_in_values(_shown(name), some.iloc[:, place]))
    return tuple(found)


def kind_of_name(name: str) -> str:
    """Which kind of personal data a column of this name holds by the look of it, or ``""``."""
    parted = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name.strip()[:100])
    plain = re.sub(r"[^a-z0-9]+", "_", parted.lower()).strip("_")
    return next((kind for kind, words in _NAME_PATTERNS.items() if words.fullmatch(plain)), "")


def _in_values(name: str, column: Any) -> list[Sensitive]:
    texts = [value for value in column.tolist() if isinstance(value, str)]
    found = []
    for kind, pattern in _VALUES.items():
        matched = sum(_looks_like(kind, pattern, text) for text in texts)
        if matched and matched >= LEAST_SHARE * len(texts):
            found.append(
                Sensitive(
                    column=name, kind=kind, found_by="values", matched=matched, scanned=len(texts)
                )
            )
    return found


def _looks_like(kind: str, pattern: re.Pattern[str], text: str) -> bool:
    text = text[:300].strip()
    if kind == "iban":
        text = text.replace(" ", "")
    if not pattern.fullmatch(text):
        return False
    if kind == "card number":
        return _luhn(re.sub(r"\D", "", text))
    if kind == "iban":
        return _iban(text)
    if kind == "ip address":
        return all(int(part) <= 255 for part in text.split("."))
    return True


def _luhn(digits: str) -> bool:
    """The check digit of payment cards (ISO/IEC 7812-1)."""
    doubled = [int(d) * (2 if i % 2 else 1) for i, d in enumerate(reversed(digits))]
    return sum(d - 9 if d > 9 else d for d in doubled) % 10 == 0


def _iban(text: str) -> bool:
    """The check digits of ISO 13616: modulo 97."""
    moved = text[4:] + text[:4]
    return int("".join(str(int(character, 36)) for character in moved)) % 97 == 1


def _shown(name: object) -> str:
    return str(name)[:100]
