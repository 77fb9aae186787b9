"""The report's drawings, as small SVG files with a text that says the same.

Colours come from classes (``c-pass``), so that the page decides them (dark mode) and the
PDF gets them written in. Every mark also has a label, so that nothing rests on colour;
fills differ in lightness, so that they stay apart in black and white print.
"""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape

from mlflow_carbon.report.shown import visible

WIDTH = 680
_LABEL = 176
"""Room for names at the left."""
_LETTERS = 25
_ROW = 26
_BAR = 15
_FONT = 11

INK = {
    "light": {
        "text": "#1d2a35", "soft": "#5b6874", "grid": "#d9dfe4", "ground": "#ffffff", "dot": "#0b5563",
        "pass": "#2f7d5b", "fail": "#a3271b", "no_evidence": "#e0a92e", "not_applicable": "#dfe4e8",
        "needs_attestation": "#7f9fd6", "waived": "#b9a5cf", "error": "#1d2a35", "attested": "#8cc9a8",
        "gpu": "#0b5563", "cpu": "#4f9aa8", "dram": "#9bcfd3", "rest": "#d9dfe4",
    },
    "dark": {
        "text": "#e8edf1", "soft": "#a7b3bd", "grid": "#3a4753", "ground": "#141b21", "dot": "#7cc4d2",
        "pass": "#4fae84", "fail": "#e2705f", "no_evidence": "#e6b84d", "not_applicable": "#8895a1",
        "needs_attestation": "#8fb0ea", "waived": "#b895cf", "error": "#f4f6f8", "attested": "#c3ead8",
        "gpu": "#3f9fb0", "cpu": "#8ccdd6", "dram": "#cfeaec", "rest": "#4a5763",
    },
}  # fmt: skip
"""Fill of each class, checked for contrast by a test."""

ON = {"light": ("#ffffff", "#1d2a35"), "dark": ("#10161b", "#10161b")}
"""Text on dark and on light fills."""

_ON_DARK = {"pass", "fail", "error", "gpu"}
"""Fills that carry a white label in the light scheme."""


@dataclass(frozen=True, slots=True)
class Bar:
    """One row of a stacked bar chart: segments as (class, value)."""

    label: str
    segments: tuple[tuple[str, float], ...]
    total: str
    """Written behind the bar."""


@dataclass(frozen=True, slots=True)
class Span:
    """One row of a range chart."""

    label: str
    low: float
    mid: float
    high: float
    total: str


@dataclass(frozen=True, slots=True)
class Dot:
    """One point of a scatter chart."""

    label: str
    x: float
    y: float


def style(scheme: str, prefix: str = "") -> str:
    """The fills as a style sheet."""
    ink = INK[scheme]
    rules = [f"{prefix}.c-{name}{{fill:{colour}}}" for name, colour in ink.items()]
    rules += [
        f"{prefix}.s-{name}{{stroke:{ink[name]}}}" for name in ("grid", "dot", "ground", "soft")
    ]
    rules += [
        f"{prefix}.c-{name}{{fill:{colour}}}"
        for name, colour in zip(("on", "off"), ON[scheme], strict=True)
    ]
    return "".join(rules)


def bars(
    rows: Sequence[Bar], legend: Mapping[str, str], written: Callable[[int], str] | None = None
) -> str:
    """Stacked horizontal bars on one scale; ``written`` gives the counts written into the segments."""
    most = max((sum(value for _, value in row.segments) for row in rows), default=0) or 1
    scale = (WIDTH - _LABEL - 84) / most
    out, top = _legend(legend)
    for place, row in enumerate(rows):
        y = top + place * _ROW
        out.append(_label(row.label, y))
        x = float(_LABEL)
        for name, value in row.segments:
            if not value:
                continue
            width = max(value * scale, 1.0)
            out.append(
                f'<rect class="c-{name} s-ground" stroke-width="1" x="{x:.1f}" y="{y}" '
                f'width="{width:.1f}" height="{_BAR}"/>'
            )
            count = written(round(value)) if written else ""
            if count and width > 6 * len(count) + 4:
                tone = "on" if name in _ON_DARK else "off"
                out.append(_text(x + width / 2, y + 11.5, count, tone, "middle", 9.5))
            x += width
        out.append(_text(x + 6, y + 12, row.total, "soft"))
    return _svg(out, top + len(rows) * _ROW)


def spans(rows: Sequence[Span]) -> str:
    """A dot with a line from low to high for each row, from zero."""
    most = max((row.high for row in rows), default=0) or 1
    scale = (WIDTH - _LABEL - 110) / most
    out: list[str] = []
    for place, row in enumerate(rows):
        y = 4 + place * _ROW
        middle = y + _BAR / 2
        low, mid, high = (_LABEL + value * scale for value in (row.low, row.mid, row.high))
        out += [
            _label(row.label, y),
            f'<line class="s-grid" stroke-width="1" x1="{_LABEL}" y1="{middle}" x2="{WIDTH - 104}" y2="{middle}"/>',
            f'<line class="s-soft" stroke-width="3" x1="{low:.1f}" y1="{middle}" x2="{high:.1f}" y2="{middle}"/>',
            f'<circle class="c-dot s-ground" stroke-width="1.5" cx="{mid:.1f}" cy="{middle}" r="5"/>',
            _text(WIDTH - 98, y + 12, row.total, "soft"),
        ]
    return _svg(out, 4 + len(rows) * _ROW)


def scatter(
    dots: Sequence[Dot], x_title: str, y_title: str, local: Callable[[str], str] = str
) -> str:
    """Points over two axes; the label stands at the point where there is room."""
    left, right, top, bottom = 64, WIDTH - 24, 22, 216
    x_ticks, y_ticks = _ticks([dot.x for dot in dots]), _ticks([dot.y for dot in dots])
    x_low, x_high, y_low, y_high = x_ticks[0], x_ticks[-1], y_ticks[0], y_ticks[-1]
    out = [_text(4, 12, y_title, "soft"), _text(right, bottom + 34, x_title, "soft", "end")]
    for tick in y_ticks:
        y = bottom - (bottom - top) * (tick - y_low) / (y_high - y_low)
        out += [
            f'<line class="s-grid" stroke-width="1" x1="{left}" y1="{y:.1f}" x2="{right}" y2="{y:.1f}"/>',
            _text(left - 8, y + 4, local(f"{tick:.6g}"), "soft", "end", 10),
        ]
    for tick in x_ticks:
        x = left + (right - left) * (tick - x_low) / (x_high - x_low)
        out.append(_text(x, bottom + 16, local(f"{tick:.6g}"), "soft", "middle", 10))
    places = [
        (
            left + (right - left) * (dot.x - x_low) / (x_high - x_low),
            bottom - (bottom - top) * (dot.y - y_low) / (y_high - y_low),
        )
        for dot in dots
    ]
    taken = [(x - 6, x + 6, y) for x, y in places]
    marks = [
        f'<circle class="c-dot s-ground" stroke-width="1.5" cx="{x:.1f}" cy="{y:.1f}" r="5"/>'
        for x, y in places
    ]
    for dot, (x, y) in zip(dots, places, strict=True):
        label = clipped(dot.label)
        wide = 5.3 * sum(map(_letters, label))
        edge = next(
            (
                edge
                for edge in (x + 9, x - 9 - wide)
                if left <= edge
                and edge + wide <= WIDTH
                and all(
                    edge + wide < start or edge > end or abs(y - at) > 13
                    for start, end, at in taken
                )
            ),
            None,
        )
        if edge is None:
            continue
        taken.append((edge, edge + wide, y))
        # The ground behind the label, so that no grid line runs through its letters.
        out.append(
            f'<rect class="c-ground" x="{edge:.1f}" y="{y - 6:.1f}" width="{wide:.1f}" height="12"/>'
        )
        anchor, at = ("start", edge) if edge > x else ("end", edge + wide)
        marks.append(_text(at, y + 4, label, "text", anchor, 10))
    return _svg([*out, *marks], bottom + 40)


@dataclass(frozen=True, slots=True)
class Course:
    """One panel of a line chart over time: points as (seconds, low, mean, high), in order of time."""

    label: str
    points: tuple[tuple[float, float, float, float], ...]
    top: str
    """What the top of the scale is called."""
    end: str
    """What the last moment is called."""
    total: str


_PANEL, _PANEL_GAP = 46, 22


def courses(panels: Sequence[Course]) -> str:
    """A line over a band from low to high for each panel; one scale from zero for all of them."""
    left, right = _LABEL, WIDTH - 104
    most = max((high for one in panels for *_, high in one.points), default=0) or 1
    out: list[str] = []
    for place, one in enumerate(panels):
        top = 6 + place * (_PANEL + _PANEL_GAP)
        bottom = top + _PANEL
        last = one.points[-1][0] or 1.0

        def at(moment: float, value: float, last: float = last, bottom: int = bottom) -> str:
            x = left + (right - left) * moment / last
            return f"{x:.1f},{bottom - _PANEL * max(value, 0.0) / most:.1f}"

        band = [at(t, high) for t, _, _, high in one.points]
        band += [at(t, low) for t, low, _, _ in reversed(one.points)]
        mean = [at(t, value) for t, _, value, _ in one.points]
        out += [
            _label(one.label, top + _PANEL / 2 - 8),
            *(
                f'<line class="s-grid" stroke-width="1" x1="{left}" y1="{y}" x2="{right}" y2="{y}"/>'
                for y in (top, bottom)
            ),
            f'<polygon class="c-dram" points="{" ".join(band)}"/>',
            f'<polyline class="s-dot" fill="none" stroke-width="1.5" points="{" ".join(mean)}"/>',
            _text(left - 6, top + 4, one.top, "soft", "end", 9.5),
            _text(left - 6, bottom + 3, "0", "soft", "end", 9.5),
            _text(right, bottom + 13, one.end, "soft", "end", 9.5),
            _text(WIDTH - 98, top + _PANEL / 2 + 4, one.total, "soft"),
        ]
    return _svg(out, 6 + len(panels) * (_PANEL + _PANEL_GAP))


def _ticks(values: Sequence[float]) -> list[float]:
    """Round numbers around all values, three to seven of them."""
    low, high = min(values), max(values)
    span = high - low or abs(high) or 1.0
    power = 10 ** math.floor(math.log10(span / 4))
    step = next(m * power for m in (1, 2, 5, 10) if span / 4 <= m * power)
    first, last = math.floor(low / step), math.ceil(high / step)
    return [place * step for place in range(first, max(last, first + 1) + 1)]


def finite(*values: float) -> bool:
    """Whether all values can be drawn."""
    return all(math.isfinite(value) for value in values)


def _legend(legend: Mapping[str, str]) -> tuple[list[str], int]:
    """The marks with their words, in as many lines as they need, and the height they take."""
    out: list[str] = []
    x, y = 0.0, 2
    for name, word in legend.items():
        width = 14 + 5.4 * sum(map(_letters, word)) + 12
        if x + width > WIDTH and x:
            x, y = 0.0, y + 16
        out.append(
            f'<rect class="c-{name} s-soft" stroke-width="0.5" x="{x:.1f}" y="{y}" width="10" height="10"/>'
        )
        out.append(_text(x + 14, y + 9, word, "soft", size=10))
        x += width
    return out, y + 22 if legend else 4


def clipped(text: str) -> str:
    """A name narrow enough to stand beside a mark; the whole name is in the table.

    Its end is kept too: names of runs often differ there only.
    """
    if len(text) <= 2 * _LETTERS and sum(map(_letters, seen := visible(text))) <= _LETTERS:
        return seen
    room = _LETTERS - _letters("\u2026") - 0.5
    start = _fitting(visible(text[:_LETTERS]), room * 0.6)
    end = _fitting(visible(text[-_LETTERS:])[::-1], room * 0.4)[::-1]
    return f"{start.rstrip()}\u2026{end.lstrip()}"


def _fitting(text: str, room: float) -> str:
    """As much of the start of a text as has room."""
    kept = ""
    for character in text:
        room -= _letters(character)
        if room < 0:
            break
        kept += character
    return kept


def _letters(character: str) -> float:
    """The width of a character in letters of middling width."""
    if character in "mwMW@%\u2026":
        return 1.6
    if unicodedata.east_asian_width(character) in "WF":
        return 1.8
    return 1.2 if character.isupper() or character in "\u25a1_+=<>~" else 1.0


def _label(text: str, y: float) -> str:
    return _text(_LABEL - 10, y + 12, clipped(text), "text", "end")


def _text(
    x: float, y: float, text: str, tone: str, anchor: str = "start", size: float = _FONT
) -> str:
    return (
        f'<text class="c-{tone}" x="{x:.1f}" y="{y:.1f}" font-size="{size}" '
        f'text-anchor="{anchor}">{escape(text)}</text>'
    )


def _svg(parts: Sequence[str], height: float) -> str:
    """Without a style: the renderer puts one in."""
    body = "".join(parts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:.0f}" '
        f'width="{WIDTH}" height="{height:.0f}" font-family="IBM Plex Sans, DejaVu Sans, sans-serif">{body}</svg>'
    )
