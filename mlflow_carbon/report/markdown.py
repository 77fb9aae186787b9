"""The short report for pull requests and CI summaries, as GitHub and GitLab show it.

Only the parts a reviewer acts on; at most 65,000 characters, GitHub's limit for a comment.
"""

from __future__ import annotations

import re

from mlflow_carbon.report.blocks import (
    Block,
    Bullets,
    Callout,
    Code,
    Command,
    Document,
    Facts,
    Heading,
    Inline,
    Line,
    Paragraph,
    RuleGroup,
    SeverityMark,
    StateMark,
    Strong,
    Table,
    Tally,
    Whole,
)
from mlflow_carbon.report.shown import visible
from mlflow_carbon.report.texts import Texts

DETAIL_ROWS = 40
MOST = 65_000
_PARTS = ("summary", "energy", "findings", "open", "waivers", "limits", "annex")
_SPECIAL = re.compile(r"([\\`*_{}\[\]<>#|~!$])")
_ICONS = {
    "pass": "\u2705", "fail": "\u274c", "no_evidence": "\u2753", "not_applicable": "\u2796",
    "needs_attestation": "\u270d\ufe0f", "waived": "\U0001f6e1\ufe0f", "error": "\u26a0\ufe0f",
}  # fmt: skip


def render(document: Document, texts: Texts) -> bytes:
    """The short report; what does not fit is named, not cut in the middle of a line."""
    out = [f"# {plain(document.title)}", f"{plain(document.subject)}. {plain(document.as_of)}"]
    for part in document.parts:
        if part.id == "scope":
            told = next(block for block in part.blocks if isinstance(block, Facts))
            out += [f"## {plain(texts('scope.selection'))}", _data(told)]
        if part.id in _PARTS:
            out.append(f"## {plain(part.title)}")
            out += [text for text in map(_block, part.blocks) if text]
    kept: list[str] = []
    room = MOST - 400
    for text in out:
        room -= len(text) + 2
        if room < 0:
            kept.append(f"*{plain(texts('document.cut'))}*")
            break
        kept.append(text)
    return ("\n\n".join(kept) + "\n").encode("utf-8", errors="backslashreplace")


def plain(text: str) -> str:
    """Text that Markdown shows as it is: no markup, no HTML, no link, no mention."""
    escaped = _SPECIAL.sub(r"\\\1", visible(text))
    return escaped.replace("://", "&#58;//").replace("www.", "www&#46;").replace("@", "&#64;")


def _inline(piece: Inline) -> str:
    if isinstance(piece, Code):
        return _code(piece.text)
    if isinstance(piece, Whole):
        return plain(piece.text)
    if isinstance(piece, Strong):
        return f"**{plain(piece.text).strip()}**"
    if isinstance(piece, StateMark):
        return f"{_ICONS[piece.state.value]} **{plain(piece.word)}**"
    if isinstance(piece, SeverityMark):
        return f"**{plain(piece.word)}**"
    return plain(piece)


def _code(text: str) -> str:
    # A code span takes no escapes: what would end it or a table cell is replaced.
    return "`" + visible(text).replace("`", "'").replace("|", "\u00a6") + "`"


def _line(line: Line) -> str:
    return "".join(map(_inline, line)).strip()


def _block(block: Block) -> str:
    if isinstance(block, Paragraph):
        return _line(block.line)
    if isinstance(block, Heading):
        return f"### {_line(block.text)}"
    if isinstance(block, Bullets):
        mark = "1." if block.ordered else "-"
        return "\n".join(f"{mark} {_line(item)}" for item in block.items)
    if isinstance(block, Callout):
        return f"> **{plain(block.heading)}**\n" + "\n".join(f"> - {_line(i)}" for i in block.items)
    if isinstance(block, Command):
        return "```\n" + visible(block.text).replace("```", "'''") + "\n```"
    return _data(block)


def _data(block: Block) -> str:
    if isinstance(block, Facts):
        return "\n".join(f"- {plain(label)}: {_line(value)}" for label, value in block.rows)
    if isinstance(block, Tally):
        return " \u00b7 ".join(f"{_inline(mark)} {count}" for mark, count, _ in block.items)
    if isinstance(block, Table):
        return _table(block)
    if isinstance(block, RuleGroup):
        head = f"### {_code(block.rule_id)} {plain(block.title)}"
        marks = f"{_inline(block.severity)} {_inline(block.state)} {plain(block.count)}"
        return "\n\n".join(
            text for text in (head, marks, _data(block.facts), _table(block.table)) if text
        )
    return ""


def _table(table: Table) -> str:
    if not table.rows:
        return plain(table.omitted)
    head = "| " + " | ".join(plain(column.heading) for column in table.columns) + " |"
    rule = "|" + "|".join("---:" if column.number else "---" for column in table.columns) + "|"
    rows = ["| " + " | ".join(map(_line, row)) + " |" for row in table.rows]
    tail = [f"\n{plain(table.omitted)}"] if table.omitted else []
    return "\n".join((head, rule, *rows, *tail))
