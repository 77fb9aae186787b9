"""The registers: datasets, waivers and attestations, controls, integrity."""

from __future__ import annotations

from collections import Counter

from mlflow_carbon.audit.summary import DatasetRow
from mlflow_carbon.policy.model import State, Waiver
from mlflow_carbon.report.blocks import (
    Block,
    Code,
    Column,
    Heading,
    Line,
    Paragraph,
    Strong,
    Table,
    cells,
    line,
)
from mlflow_carbon.report.context import Context
from mlflow_carbon.report.parts.findings import rule_group
from mlflow_carbon.report.shown import name, shown

LISTED = 60


def datasets(c: Context) -> tuple[Block, ...]:
    """Each content of each dataset, with what is declared about it."""
    t, rows = c.t, c.audit.datasets
    if not rows:
        return (Paragraph(line(t("datasets.none")), "lead"),)
    lead = t("datasets.lead", contents=t("datasets.contents", len(rows) + c.audit.datasets_left_out),
             runs=t("datasets.runs", sum(row.runs for row in rows)))  # fmt: skip
    table = Table(
        t("datasets.caption"),
        (
            Column(t("datasets.name"), 24), Column(t("datasets.rows"), 10, number=True),
            Column(t("datasets.license"), 16), Column(t("datasets.origin"), 18),
            Column(t("datasets.sensitive"), 17), Column(t("datasets.use"), 15),
        ),
        tuple(_dataset(c, row) for row in rows[:LISTED]),
        omitted=c.more(max(len(rows) - LISTED, 0), c.audit.datasets_left_out, "report.json"),
    )  # fmt: skip
    return (Paragraph(line(lead), "lead"), table, Paragraph(line(t("datasets.note")), "note"))


def _dataset(c: Context, row: DatasetRow) -> tuple[Line, ...]:
    t = c.t
    content: Line = line(t("datasets.no_hash"))
    if row.sha256:
        scope = t("datasets.scope", scope=name(row.hash_scope or t("unknown")))
        content = line("SHA-256 ", Code(f"{row.sha256[:16]}\u2026"), f", {scope}")
    unknown = t("unknown")
    license_line = line(name(row.license) if row.license else unknown)
    if row.declared_by:
        license_line += line(f"; {t('datasets.said_by', who=name(row.declared_by))}")
    return (
        line(Strong(name(row.name)), " ", Code(name(row.digest)), "; ", *content),
        line(unknown if row.rows is None else t.number(row.rows)),
        license_line,
        line(shown(row.origin, 160) or unknown),
        line(shown(row.sensitive, 160) or unknown),
        line(
            t("datasets.use_value", runs=t("datasets.use_runs", row.runs),
              contexts=c.listed(name(context) for context in row.contexts))
        ),
    )  # fmt: skip


def waivers(c: Context) -> tuple[Block, ...]:
    """Accepted exceptions with what they hide, then named persons' statements."""
    t = c.t
    blocks: list[Block] = [Heading(line(t("waivers.waivers_heading"))), _waivers(c)]
    if c.audit.unused_waivers:
        names = ", ".join(name(waiver) for waiver in c.audit.unused_waivers)
        blocks.append(Paragraph(line(t("waivers.unused", names=names)), "note"))
    if hidden := c.groups((State.WAIVED,)):
        blocks += [
            Heading(line(t("waivers.hidden_heading"))),
            *(rule_group(c, group) for group in hidden),
        ]
    return (*blocks, Heading(line(t("waivers.attestations_heading"))), _attestations(c))


def _waivers(c: Context) -> Block:
    t = c.t
    given = [waiver for pack in c.audit.packs for waiver in pack.waivers]
    if not given:
        return Paragraph(line(t("waivers.waivers_none")))
    return Table(
        t("waivers.waivers_caption"),
        (
            Column(t("waivers.waiver"), 14), Column(t("waivers.rules"), 12),
            Column(t("waivers.reason"), 26), Column(t("waivers.approved"), 21),
            Column(t("waivers.expires"), 13), Column(t("waivers.hides"), 14),
        ),
        tuple(_waiver(c, waiver) for waiver in given),
    )  # fmt: skip


def _waiver(c: Context, waiver: Waiver) -> tuple[Line, ...]:
    t = c.t
    hidden = Counter(
        f.underlying for f in c.audit.findings if f.waiver == waiver.id and f.underlying is not None
    )
    hides = t("waivers.hides_nothing")
    if hidden:
        states = ", ".join(f"{c.state(s).word} {t.number(n)}" for s, n in hidden.items())
        answers = t("waivers.hides_answers", sum(hidden.values()))
        key = "waivers.hides_least" if c.audit.findings_left_out else "waivers.hides_value"
        hides = t(key, answers=answers, states=states)
    expires = waiver.expires.isoformat()
    if waiver.expires < c.audit.as_of.date():
        expires = t("waivers.expired", date=expires)
    approved = t(
        "waivers.approved_value", by=name(waiver.approved_by), on=waiver.approved_on.isoformat(),
        requested=name(waiver.requested_by),
    )  # fmt: skip
    reason = shown(waiver.reason, 400)
    if waiver.compensating_control:
        reason += f" {t('waivers.instead', what=shown(waiver.compensating_control, 400))}"
    return cells(
        line(Code(name(waiver.id)), f" {name(waiver.ticket)}"), ", ".join(waiver.rules),
        reason, approved, expires, hides,
    )  # fmt: skip


def _attestations(c: Context) -> Block:
    t = c.t
    if not c.audit.attestations:
        return Paragraph(line(t("waivers.attestations_none")))
    rows = []
    for subject, given in c.audit.attestations:
        reference = (
            f" ({t('waivers.reference', reference=name(given.reference))})"
            if given.reference
            else ""
        )
        rows.append(
            cells(
                name(subject), Code(name(given.statement)), f"{name(given.by)}, {name(given.role)}",
                c.moment(given.made_at),
                t("waivers.no_end") if given.expires_at is None else c.moment(given.expires_at),
                shown(given.reason, 300) + reference,
            )
        )  # fmt: skip
    return Table(
        t("waivers.attestations_caption"),
        (
            Column(t("waivers.subject"), 16), Column(t("waivers.statement"), 20),
            Column(t("waivers.by"), 18), Column(t("waivers.made"), 12),
            Column(t("waivers.valid"), 12), Column(t("waivers.reason"), 22),
        ),
        tuple(rows),
    )  # fmt: skip
