"""What the screen and the PDF share: templates, colours, and the rule that all data is text."""

from __future__ import annotations

import re
from collections.abc import Mapping

from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape
from markupsafe import Markup

from mlflow_carbon import resources
from mlflow_carbon.policy.model import State
from mlflow_carbon.report.look import Look
from mlflow_carbon.report.shown import visible

SCHEMES: Mapping[str, Mapping[str, str]] = {
    "light": {
        "text": "#1d2a35", "soft": "#56626d", "line": "#d3dae0", "ground": "#ffffff", "tint": "#f3f6f8",
        "accent": "#0b5563", "st-pass": "#1f6647", "st-fail": "#a3271b", "st-no_evidence": "#7a5000",
        "st-not_applicable": "#56626d", "st-needs_attestation": "#30539b", "st-waived": "#6b4a8c",
        "st-error": "#1d2a35",
    },
    "dark": {
        "text": "#e8edf1", "soft": "#a7b3bd", "line": "#36434f", "ground": "#141b21", "tint": "#1c252d",
        "accent": "#7cc4d2", "st-pass": "#74cfa4", "st-fail": "#f09384", "st-no_evidence": "#e8bf62",
        "st-not_applicable": "#a7b3bd", "st-needs_attestation": "#a3bff2", "st-waived": "#c9b2e3",
        "st-error": "#f4f6f8",
    },
}  # fmt: skip


def variables(scheme: str, look: Look) -> str:
    """The colours as CSS variables."""
    colours = dict(SCHEMES[scheme])
    if scheme == "light":
        colours["accent"] = look.accent
    return ";".join(f"--{name}:{colour}" for name, colour in colours.items())


def environment() -> Environment:
    """Templates that escape everything and show what would be invisible; nothing is undefined silently."""
    env = Environment(
        loader=FileSystemLoader(resources.templates() / "report"),
        autoescape=select_autoescape(enabled_extensions=("html.j2",)),
        finalize=_finalize,
        undefined=StrictUndefined,
        keep_trailing_newline=False,
    )
    env.filters["anchor"] = anchor
    env.filters["css"] = css_string
    return env


def _finalize(value: object) -> object:
    return visible(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def anchor(text: str) -> str:
    """A text as an id: letters, digits and hyphens only."""
    return re.sub(r"[^A-Za-z0-9]+", "-", text).strip("-") or "x"


def css_string(text: str) -> str:
    """A text as a CSS string: everything but letters, digits and spaces as a code point."""
    return '"' + "".join(map(_css_character, visible(text))) + '"'


def _css_character(character: str) -> str:
    if character == " " or (character.isascii() and character.isalnum()):
        return character
    return f"\\{ord(character):06x} "  # the space ends the code point


def own(text: str) -> Markup:
    """Markup made by this package, never by data: style, script, drawings whose texts are escaped."""
    return Markup(text)  # noqa: S704 - the one place where text becomes markup


def icon(state: str, scheme: str = "light") -> str:
    """The icon of a state as SVG: a shape of its own, so that it is told apart without colour."""
    svg = (resources.templates() / "report" / "icons" / f"{state}.svg").read_text(encoding="utf-8")
    colours = SCHEMES[scheme]
    return svg.replace("currentColor", colours[f"st-{state}"]).replace("ground", colours["ground"])


STATES = tuple(state.value for state in State)
