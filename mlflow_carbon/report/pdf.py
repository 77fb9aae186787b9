"""The report as PDF/A-3a and PDF/UA-1 at once, with the data attached.

WeasyPrint writes one of the two; the finisher adds the other's identification to the
metadata while the file is written. Nothing is fetched: the renderer can open the shipped
fonts, icons and drawings of this report, and no other address.
"""

from __future__ import annotations

import hashlib
import io
import warnings
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import cache
from typing import Any

from markupsafe import Markup

from mlflow_carbon import resources
from mlflow_carbon.errors import OutputError
from mlflow_carbon.report import charts, page
from mlflow_carbon.report.blocks import Document, Figure
from mlflow_carbon.report.context import Attached
from mlflow_carbon.report.look import Look
from mlflow_carbon.report.pango import pango_problem
from mlflow_carbon.report.shown import visible
from mlflow_carbon.report.texts import Texts

FONTS = (
    ("IBM Plex Sans", 400, "IBMPlexSans-Regular.ttf"),
    ("IBM Plex Sans", 600, "IBMPlexSans-SemiBold.ttf"),
    ("IBM Plex Mono", 400, "IBMPlexMono-Regular.ttf"),
    ("DejaVu Sans", 400, "DejaVuSans.ttf"),
)
"""Open fonts shipped with their licenses. DejaVu is the fallback for other scripts and symbols."""

_SCHEME = "report:/"

# PDF/UA-1 identification with the extension schema PDF/A asks for (ISO 19005-3, 6.6.2.3;
# ISO 14289-1, clause 5), put at the end of the XMP packet that WeasyPrint wrote.
_UA = b"""<rdf:Description xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#" rdf:about="" \
xmlns:pdfuaid="http://www.aiim.org/pdfua/ns/id/"><pdfuaid:part>1</pdfuaid:part></rdf:Description>\
<rdf:Description rdf:about="" xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#" \
xmlns:pdfaExtension="http://www.aiim.org/pdfa/ns/extension/" \
xmlns:pdfaSchema="http://www.aiim.org/pdfa/ns/schema#" \
xmlns:pdfaProperty="http://www.aiim.org/pdfa/ns/property#"><pdfaExtension:schemas><rdf:Bag>\
<rdf:li rdf:parseType="Resource"><pdfaSchema:schema>PDF/UA identification schema</pdfaSchema:schema>\
<pdfaSchema:namespaceURI>http://www.aiim.org/pdfua/ns/id/</pdfaSchema:namespaceURI>\
<pdfaSchema:prefix>pdfuaid</pdfaSchema:prefix><pdfaSchema:property><rdf:Seq>\
<rdf:li rdf:parseType="Resource"><pdfaProperty:name>part</pdfaProperty:name>\
<pdfaProperty:valueType>Integer</pdfaProperty:valueType><pdfaProperty:category>internal</pdfaProperty:category>\
<pdfaProperty:description>Part of ISO 14289</pdfaProperty:description></rdf:li></rdf:Seq>\
</pdfaSchema:property></rdf:li></rdf:Bag></pdfaExtension:schemas></rdf:Description></rdf:RDF>"""


def render(
    document: Document,
    texts: Texts,
    attached: Sequence[Attached],
    made_at: datetime,
    look: Look,
) -> bytes:
    """The PDF. The same document, time and library versions give the same bytes.

    Raises:
        OutputError: Pango is missing; the text has the command that installs it.
    """
    if problem := pango_problem():
        raise OutputError(problem)
    import weasyprint

    assets = _assets(document, look)
    html = shape(_html(document, texts, look))
    source = weasyprint.HTML(
        string=html, base_url=_SCHEME, url_fetcher=only_own_files(assets), media_type="print"
    )
    files = [
        weasyprint.Attachment(
            string=file.content, name=file.name, description=texts(f"file.{file.name.rpartition('.')[2]}"),
            created=made_at, modified=made_at, relationship="Data",
        )
        for file in attached
    ]  # fmt: skip
    out = io.BytesIO()
    identifier = hashlib.sha256(html.encode()).digest()[:16]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of libraries below WeasyPrint
        source.write_pdf(
            out,
            finisher=_finish,
            pdf_variant="pdf/a-3a",
            attachments=files,
            pdf_identifier=identifier,
        )
    return out.getvalue()


def _html(document: Document, texts: Texts, look: Look) -> str:
    env = page.environment()
    base = env.get_template("base.css.j2").render(
        states=page.STATES, icon=lambda state: f"url({_SCHEME}icons/{state}.svg)"
    )
    footer = " \u00b7 ".join(part for part in (document.classification, document.as_of) if part)
    css = env.get_template("print.css.j2").render(
        fonts=FONTS, variables=page.variables("light", look), base=base, title=document.title, footer=footer,
        page_word=texts("document.page"), of_word=texts("document.of"),
    )  # fmt: skip
    return env.get_template("report.pdf.html.j2").render(
        document=document, t=texts, css=page.own(css), draw=_draw, author="mlflow-carbon",
        generator="mlflow-carbon", logo=_logo(look),
    )  # fmt: skip


def _draw(figure: Figure) -> Markup:
    # An image with alt text: WeasyPrint tags an inline <svg> without one (PDF/UA 7.3-1).
    return Markup('<img src="{}charts/{}.svg" alt="{}">').format(
        _SCHEME, figure.name, visible(figure.alt)
    )


def _logo(look: Look) -> Markup | str:
    text = look.logo_text or "Logo"
    return Markup('<img src="{}logo" alt="{}">').format(_SCHEME, text) if look.logo else ""


def _assets(document: Document, look: Look) -> dict[str, tuple[bytes, str]]:
    fonts = resources.templates() / "report" / "fonts"
    assets = {f"fonts/{file}": ((fonts / file).read_bytes(), "font/ttf") for _, _, file in FONTS}
    assets |= {f"icons/{s}.svg": (page.icon(s).encode(), "image/svg+xml") for s in page.STATES}
    if look.logo:
        assets["logo"] = (look.logo, look.logo_type)
    style = f"<style>{charts.style('light')}</style>"
    for part in document.parts:
        for block in part.blocks:
            if isinstance(block, Figure):
                svg = shape(block.svg.replace(">", f">{style}", 1), "\u25a1")
                assets[f"charts/{block.name}.svg"] = (svg.encode(), "image/svg+xml")
    return {_SCHEME + name: asset for name, asset in assets.items()}


def only_own_files(assets: Mapping[str, tuple[bytes, str]]) -> Any:
    from weasyprint.urls import FatalURLFetchingError, URLFetcher, URLFetcherResponse

    class OwnFilesOnly(URLFetcher):  # type: ignore[misc]  # WeasyPrint has no types
        """Opens the files of this report. Any other address stops the rendering: there should be none."""

        def fetch(self, url: str, headers: object = None) -> Any:  # noqa: ARG002 - WeasyPrint's signature
            if url not in assets:
                raise FatalURLFetchingError(
                    f"the report asked for {url!r}, which is not part of it"
                )
            content, media_type = assets[url]
            return URLFetcherResponse(url, body=content, headers={"Content-Type": media_type})

    return OwnFilesOnly()


def _finish(_document: object, pdf: Any) -> None:
    for item in pdf.objects:
        extra = getattr(item, "extra", None)
        if extra and str(extra.get("Type")) == "/Metadata":
            item.stream = [
                part.replace(b"</rdf:RDF>", _UA) if isinstance(part, bytes) else part
                for part in item.stream
            ]


@cache
def _covered() -> frozenset[int]:
    """Characters that the shipped fonts can draw."""
    from fontTools.ttLib import TTFont

    fonts = resources.templates() / "report" / "fonts"
    points: set[int] = set()
    for _, _, file in FONTS:
        with TTFont(fonts / file, lazy=True) as font:
            points.update(font.getBestCmap())
    return frozenset(points)


def shape(html: str, mark: str = "") -> str:
    """Characters that no shipped font has become ``mark``, or their code point: ``[U+6570]``.

    PDF/A and PDF/UA forbid missing glyphs, and a font that happens to be installed would
    make the file differ from machine to machine. HTML and the attached data keep them.
    """
    if html.isascii():
        return html
    covered = _covered()
    missing = {point for point in map(ord, set(html)) if point > 126 and point not in covered}
    return html.translate({point: mark or f"[U+{point:04X}]" for point in missing})
