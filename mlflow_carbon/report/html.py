"""The report as one HTML file: no other file, no address, no script but its own filter."""

from __future__ import annotations

import base64
import hashlib

from markupsafe import Markup, escape

from mlflow_carbon import resources
from mlflow_carbon.policy.model import Severity, State
from mlflow_carbon.report import charts, page
from mlflow_carbon.report.blocks import Document, Figure
from mlflow_carbon.report.look import Look
from mlflow_carbon.report.shown import visible
from mlflow_carbon.report.texts import Texts


def render(document: Document, texts: Texts, look: Look) -> bytes:
    """The page. Style and script are allowed by their hash, everything else is forbidden."""
    env = page.environment()
    base = env.get_template("base.css.j2").render(
        states=page.STATES, icon=lambda state: f"var(--icon-{state})"
    )
    css = env.get_template("screen.css.j2").render(
        light=_variables("light", look), dark=_variables("dark", look),
        base=base, charts_light=charts.style("light"),
        charts_dark_media=charts.style("dark", ':root:not([data-theme="light"]) '),
        charts_dark=charts.style("dark", ':root[data-theme="dark"] '),
    )  # fmt: skip
    script = (resources.templates() / "report" / "screen.js").read_text(encoding="utf-8")
    policy = (
        f"default-src 'none'; img-src data:; style-src '{_hash(css)}'; script-src '{_hash(script)}'; "
        "base-uri 'none'; form-action 'none'"
    )
    html = env.get_template("report.html.j2").render(
        document=document, t=texts, css=page.own(css), script=page.own(script), policy=policy, draw=_draw,
        logo=_logo(look),
        states=[(s.value, texts(f"state.{s.value}")) for s in State],
        severities=[(s.value, texts(f"severity.{s.value}")) for s in Severity],
    )  # fmt: skip
    return html.encode("utf-8", errors="backslashreplace")


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _variables(scheme: str, look: Look) -> str:
    icons = (f"--icon-{s}:url({_data(page.icon(s, scheme).encode())})" for s in page.STATES)
    return ";".join((page.variables(scheme, look), *icons))


def _logo(look: Look) -> Markup | str:
    text = look.logo_text or "Logo"
    return (
        Markup('<img src="{}" alt="{}">').format(_data(look.logo, look.logo_type), text)
        if look.logo
        else ""
    )


def _data(content: bytes, kind: str = "image/svg+xml") -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def _draw(figure: Figure) -> Markup:
    label = escape(visible(figure.alt))
    return page.own(figure.svg.replace("<svg ", f'<svg role="img" aria-label="{label}" ', 1))
