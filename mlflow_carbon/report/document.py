"""The report as a document: cover, eleven numbered parts and an annex, in one order, for every format.

Every figure stands with what it is out of. What is unknown, waived or not assessed has a
place of its own. No sentence says more than the records do.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from mlflow_carbon.audit.summary import Audit
from mlflow_carbon.report.blocks import Block, Document, Part
from mlflow_carbon.report.context import NUMBER, ORDER, Attached, Context, fair_shares
from mlflow_carbon.report.parts import (
    close,
    coverage,
    energy,
    findings,
    front,
    integrity,
    registers,
)
from mlflow_carbon.report.texts import Texts

DETAIL_ROWS = 300
"""Findings listed one by one in a document; all of them are in the attached data."""

_BUILDERS: Mapping[str, Callable[[Context], tuple[Block, ...]]] = {
    "summary": front.summary,
    "scope": front.scope,
    "energy": energy.energy,
    "findings": findings.findings,
    "open": findings.undecided,
    "datasets": registers.datasets,
    "waivers": registers.waivers,
    "coverage": coverage.coverage,
    "integrity": integrity.integrity,
    "limits": close.limits,
    "signoff": close.sign_off,
}


def build(
    audit: Audit,
    texts: Texts,
    *,
    attached: tuple[Attached, ...] = (),
    detail_rows: int = DETAIL_ROWS,
    classification: str = "",
) -> Document:
    """The document of an audit in one language."""
    context = Context(audit, texts, detail_rows, attached)
    groups = context.groups(findings.DETAILED)
    shares = fair_shares([len(group.findings) for group in groups], detail_rows)
    for group, share in zip(groups, shares, strict=True):
        context.shares[group.summary.pack_id, group.summary.rule.id, group.state] = share
    parts = [
        Part(ident, str(NUMBER[ident]), texts(f"{ident}.title"), _BUILDERS[ident](context))
        for ident in ORDER
    ]
    parts.append(Part("annex", "", texts("annex.title"), close.annex(context)))
    cover = front.cover(context)
    return Document(
        language=texts.language,
        title=texts("document.title"),
        subject=cover.subtitle,
        classification=classification,
        as_of=context.moment(audit.as_of),
        cover=cover,
        parts=tuple(parts),
    )
