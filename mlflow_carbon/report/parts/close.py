"""Limits of assurance, sign-off, and the annex: how to repeat it, words, attached files."""

from __future__ import annotations

from mlflow_carbon.report.blocks import (
    Block,
    Bullets,
    Code,
    Column,
    Command,
    Facts,
    Heading,
    Paragraph,
    SignOff,
    Table,
    cells,
    line,
)
from mlflow_carbon.report.context import NUMBER, Context

_LIMITS = 9


def limits(c: Context) -> tuple[Block, ...]:
    """What this report cannot show."""
    return (Bullets(tuple(line(c.t(f"limits.item_{n}")) for n in range(1, _LIMITS + 1))),)


def sign_off(c: Context) -> tuple[Block, ...]:
    """Three people; who approves states independence."""
    t = c.t
    labels = (t("signoff.name"), t("signoff.date"), t("signoff.signature"))
    roles = (
        ("prepared", "preparation"),
        ("reviewed", "responsibility"),
        ("approved", "independence"),
    )
    return (
        Paragraph(line(t("signoff.lead")), "lead"),
        *(
            SignOff(t(f"signoff.{role}"), t(f"signoff.{says}", scope=NUMBER["scope"]), labels)
            for role, says in roles
        ),
    )


def annex(c: Context) -> tuple[Block, ...]:
    """Repeat, look up, verify."""
    t = c.t
    terms = ("subject", "answer", "range", "co2e")
    return (
        Heading(line(t("annex.command_heading"))),
        Command(c.audit.command),
        Paragraph(line(t("annex.command")), "note"),
        Heading(line(t("annex.glossary_heading"))),
        Facts(tuple((t(f"annex.{k}_term"), line(t(f"annex.{k}_means"))) for k in terms)),
        Heading(line(t("annex.attachments_heading"))),
        Paragraph(line(t("annex.attachments"))),
        *_left_out(c),
        Table(
            t("annex.attachments_caption"),
            (
                Column(t("annex.file"), 14),
                Column(t("annex.content"), 24),
                Column(t("annex.hash"), 62),
            ),
            tuple(
                cells(Code(file.name), t(f"file.{file.name.rpartition('.')[2]}"), Code(file.sha256))
                for file in c.attached
            ),
        ),
    )


def _left_out(c: Context) -> tuple[Block, ...]:
    left_out = c.audit.findings_left_out
    return (Paragraph(line(c.t("annex.left_out", left_out))),) if left_out else ()
