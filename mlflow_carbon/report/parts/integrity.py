"""Whether the records are as they were written, as far as anybody looked."""

from __future__ import annotations

from collections import Counter

from mlflow_carbon.evidence.model import SubjectKind
from mlflow_carbon.evidence.sealed import Seal, SealCheck
from mlflow_carbon.report.blocks import (
    Block,
    Code,
    Column,
    Facts,
    Heading,
    Line,
    Paragraph,
    Strong,
    Table,
    cells,
    line,
)
from mlflow_carbon.report.context import NUMBER, Context
from mlflow_carbon.report.shown import name, shown

LISTED = 40
CHANGES = 8
"""Changes told for one run; all of them are in report.json."""


def integrity(c: Context) -> tuple[Block, ...]:
    """The seals, if they were looked at; the runs that could not be read; where the hashes stand."""
    t, chosen = c.t, c.audit.selection
    unread = t(
        "integrity.unread_value",
        len(chosen.failed_to_read),
        all=c.among(SubjectKind.RUN, chosen.runs_selected),
    )
    return (
        Paragraph(line(t("integrity.lead")), "lead"),
        *_seals(c),
        Facts(((t("integrity.unread"), line(unread)),)),
        Paragraph(line(t("integrity.policies", scope=NUMBER["scope"])), "note"),
    )


def _seals(c: Context) -> tuple[Block, ...]:
    t, checks = c.t, c.audit.seals
    if checks is None:
        return (Paragraph(line(t("integrity.not_checked"))),)
    counts = Counter(check.seal for check in checks)
    all_runs = c.among(SubjectKind.RUN, len(checks))
    rows = tuple(
        (
            t(f"integrity.{seal.value}"),
            line(
                t("of_kind", n=counts[seal], all=all_runs), ". ", t(f"integrity.{seal.value}_means")
            ),
        )
        for seal in Seal
    )
    if left_out := c.audit.energy.rows_left_out:
        every = c.among(SubjectKind.RUN, left_out + len(checks))
        rows += (
            (
                t("integrity.not_compared"),
                line(t("integrity.not_compared_value", left_out, all=every)),
            ),
        )
    touched = [check for check in checks if check.changes]
    touched.sort(key=lambda check: (check.seal is not Seal.ALTERED, check.run_id))
    if not touched:
        return (Facts(rows),)
    return (Facts(rows), Heading(line(t("integrity.touched_heading"))), _touched(c, touched))


def _touched(c: Context, touched: list[SealCheck]) -> Table:
    t = c.t
    return Table(
        t("integrity.touched"),
        (
            Column(t("energy.run"), 28),
            Column(t("integrity.seal"), 14),
            Column(t("integrity.changes"), 58),
        ),
        tuple(_row(c, check) for check in touched[:LISTED]),
        omitted=c.more(len(touched) - LISTED, 0, "report.json"),
    )


def _row(c: Context, check: SealCheck) -> tuple[Line, ...]:
    told = [f"{shown(str(change), 160)}; " for change in check.changes[:CHANGES]]
    if (rest := len(check.changes) - CHANGES) > 0:
        told.append(c.t("integrity.more", rest))
    return cells(
        line(name(check.name), " ", Code(name(check.run_id))),
        Strong(c.t(f"integrity.{check.seal.value}")),
        tuple(told),
    )
