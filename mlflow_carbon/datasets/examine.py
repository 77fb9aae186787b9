"""One look at a dataset as it is logged: fingerprint, counts, and the rows to compare it by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mlflow_carbon.datasets.canonical import NoCanonicalForm
from mlflow_carbon.datasets.fingerprint import content_parts, fingerprint
from mlflow_carbon.datasets.quality import Quality, inspect
from mlflow_carbon.datasets.record import Fingerprint
from mlflow_carbon.datasets.rows import Overlap, RowHashes, overlap, row_hashes
from mlflow_carbon.datasets.tables import as_frame, as_table

TRAINING = frozenset({"train", "training", "fit", "fine-tuning", "finetuning"})
HELD_OUT = frozenset(
    {"eval", "evaluation", "test", "testing", "val", "valid", "validation", "holdout"}
)
"""Contexts MLflow's autologging and people use for data a model must not have seen."""

MAX_USED = 8
"""Datasets of one run whose rows are remembered."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Examination:
    """What one look at a dataset gave. ``rows`` are kept only to compare it with the run's others."""

    fingerprint: Fingerprint | str
    quality: Quality | None
    rows: RowHashes | str


@dataclass(frozen=True, slots=True, kw_only=True)
class Used:
    """A dataset in a role."""

    name: str
    context: str
    content: str
    """Its sha256."""
    rows: RowHashes | str


@dataclass(frozen=True, slots=True, kw_only=True)
class Leak:
    """Rows of a held-out dataset that the model was trained on."""

    training: str
    held_out: str
    overlap: Overlap

    def to_json(self) -> Mapping[str, object]:
        """For the run's tag and the provenance record."""
        return {
            "training": self.training,
            "held_out": self.held_out,
            "shared": self.overlap.shared,
            "compared": self.overlap.compared,
            "share": round(self.overlap.share, 6),
        }


def examine(dataset: object, *, limit_bytes: int) -> Examination:
    """Look at the content once. Never raises for odd data.

    Data over the limit is fingerprinted by a sample and not counted: that would take longer than a
    run should wait.
    """
    found = fingerprint(dataset, limit_bytes=limit_bytes)
    if not isinstance(found, Fingerprint) or found.scope != "full":
        reason = found if isinstance(found, str) else "it is over the size limit"
        return Examination(fingerprint=found, quality=None, rows=reason)
    try:
        parts = content_parts(dataset)
        data = parts.get("features", parts.get("features_data", parts.get("")))
        targets = parts.get("targets", parts.get("labels_data", getattr(dataset, "targets", None)))
        table = as_table(data)
        frame = as_frame(table) if table is not None else None
        data = data if frame is None else frame  # turned into a frame once, not for each count
        rows = row_hashes(data)
        quality = inspect(data, hashes=rows, targets=targets)
    except (NoCanonicalForm, OSError, ValueError, TypeError, LookupError, RuntimeError) as error:
        # As in ``fingerprint``: it is somebody else's object, and it was whole a moment ago.
        reason = f"{type(error).__name__} when it was read again"
        return Examination(fingerprint=found, quality=None, rows=reason)
    return Examination(fingerprint=found, quality=quality, rows=rows)


def leaks(new: Used, others: Sequence[Used]) -> tuple[Leak, ...] | None:
    """The rows a dataset shares with those of the other role in the same run.

    ``None`` when there is no dataset of the other role it could be compared with.
    """
    results = [found for other in others if (found := _compared(new, other)) is not None]
    return tuple(leak for leak in results if leak.overlap.shared) if results else None


def remember(new: Used, used: list[Used]) -> None:
    """Add a dataset to those of the run, at most ``MAX_USED``: each holds up to 1.6 MB."""
    if len(used) < MAX_USED and not any(
        (new.content, new.context) == (other.content, other.context) for other in used
    ):
        used.append(new)


def _compared(one: Used, other: Used) -> Leak | None:
    training, held_out = (one, other) if one.context.lower() in TRAINING else (other, one)
    if training.context.lower() not in TRAINING or held_out.context.lower() not in HELD_OUT:
        return None
    if isinstance(training.rows, str) or isinstance(held_out.rows, str):
        return None
    shared = overlap(training.rows, held_out.rows)
    if isinstance(shared, str):
        return None
    return Leak(training=training.name, held_out=held_out.name, overlap=shared)
