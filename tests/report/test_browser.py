"""The page in a real browser: filters, dark mode, keyboard, screen reader, paper and phone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import pypdfium2
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page

from mlflow_carbon.audit.summary import Audit
from mlflow_carbon.policy.model import State
from mlflow_carbon.report.look import Look
from mlflow_carbon.report.write import write_reports
from tests.browser import chromium


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as opened:
        yield opened


@pytest.fixture
def page(browser: Browser, written: dict[str, Path]) -> Iterator[Page]:
    """The sample's page, opened from disk; every message and request of it is noted."""
    with browser.new_page(viewport={"width": 1280, "height": 900}) as opened:
        noted: list[str] = []
        opened.on("console", lambda said: noted.append(said.text))
        opened.on("pageerror", lambda error: noted.append(str(error)))
        opened.on(
            "request",
            lambda asked: None if asked.url.startswith("data:") else noted.append(asked.url),
        )
        opened.goto(written["html"].as_uri())
        yield opened
        assert noted == [written["html"].as_uri()]


def _shown(page: Page) -> list[tuple[str, str]]:
    """State and severity of each rule that can be seen."""
    script = (
        "all => all.filter(r => r.offsetParent).map(r => [r.dataset.state, r.dataset.severity])"
    )
    return [(state, severity) for state, severity in page.eval_on_selector_all(".rule", script)]


def test_filters_for_state_severity_and_words_show_what_fits_and_count_it(page: Page) -> None:
    every = _shown(page)
    assert page.get_by_role("status").inner_text().startswith(f"{len(every)} / {len(every)}")
    page.get_by_label("State", exact=True).select_option("no_evidence")
    assert _shown(page) == [rule for rule in every if rule[0] == "no_evidence"]
    page.get_by_label("Severity", exact=True).select_option("high")
    left = [rule for rule in every if rule == ("no_evidence", "high")]
    assert _shown(page) == left
    assert left
    assert page.get_by_role("status").inner_text().startswith(f"{len(left)} / {len(every)}")
    page.get_by_label("State", exact=True).select_option("")
    page.get_by_label("Severity", exact=True).select_option("")
    page.get_by_label("Search").fill("no such words anywhere")
    assert _shown(page) == []
    page.get_by_label("Search").fill("evl-005")
    assert len(_shown(page)) >= 1


@pytest.mark.parametrize(("scheme", "width"), [("light", 1280), ("dark", 360)])
def test_axe_finds_no_fault_in_either_scheme_on_a_desk_and_on_a_phone(
    page: Page, scheme: Literal["light", "dark"], width: int
) -> None:
    page.emulate_media(color_scheme=scheme)
    page.set_viewport_size({"width": width, "height": 800})
    found = Axe().run(page)
    assert [(one["id"], one["nodes"][0]["html"]) for one in found.response["violations"]] == []


def _ground(page: Page) -> str:
    return str(page.evaluate("getComputedStyle(document.body).backgroundColor"))


def test_dark_mode_follows_the_system_and_the_button_turns_it_over(page: Page) -> None:
    page.emulate_media(color_scheme="light")
    light = _ground(page)
    page.emulate_media(color_scheme="dark")
    dark = _ground(page)
    assert dark != light
    page.locator("#b-theme").click()
    assert _ground(page) == light
    page.locator("#b-theme").click()
    assert _ground(page) == dark


def test_the_keyboard_reaches_every_control_and_what_has_the_focus_is_marked(page: Page) -> None:
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.keyboard.press("Enter")
    page.wait_for_function("location.hash === '#summary'")
    page.evaluate("document.activeElement.blur()")
    reached = set()
    for _ in range(40):
        page.keyboard.press("Shift+Tab")
        reached.add(page.evaluate("document.activeElement.id"))
        if page.evaluate("document.activeElement !== document.body"):
            assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") != "none"
    assert {"f-state", "f-severity", "f-text", "b-theme", "b-print"} <= reached
    page.locator("#f-state").focus()
    page.keyboard.type("Fail")
    assert {state for state, _ in _shown(page)} == {"fail"}


def test_a_screen_reader_hears_landmarks_headings_states_and_drawings(
    page: Page, audit: Audit
) -> None:
    told = page.locator("body").aria_snapshot()
    for heard in ("main", "navigation", "form", "complementary", "status"):
        assert f"- {heard}" in told, heard
    assert 'heading "1 Summary" [level=2]' in told
    assert f"{audit.count(State.NO_EVIDENCE)} No evidence" in told
    assert "Line charts of power over time" in told
    assert "columnheader" in told
    assert "rowheader" in told


@pytest.mark.parametrize("width", [320, 390, 768])
def test_a_phone_scrolls_down_only_and_wide_tables_scroll_in_their_own_box(
    page: Page, width: int
) -> None:
    page.set_viewport_size({"width": width, "height": 700})
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    for box in page.locator(".scroll").all():
        assert box.evaluate("e => e.getBoundingClientRect().right") <= width


@pytest.mark.parametrize("width", [390, 1280])
def test_nothing_in_a_table_reaches_into_the_next_column(page: Page, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 900})
    script = "all => all.filter(e => e.scrollWidth > e.clientWidth).map(e => e.textContent)"
    assert page.eval_on_selector_all("table.data td, table.data th", script) == []


def test_printing_leaves_out_the_controls_and_keeps_every_rule(
    page: Page, tmp_path: Path, audit: Audit
) -> None:
    page.get_by_label("State", exact=True).select_option("fail")
    page.emulate_media(media="print", color_scheme="dark")
    assert not page.locator("aside").is_visible()
    assert _ground(page) == "rgb(255, 255, 255)"
    page.pdf(path=tmp_path / "printed.pdf", format="A4")
    with pypdfium2.PdfDocument(tmp_path / "printed.pdf") as pdf:
        text = "".join(one.get_textpage().get_text_bounded() for one in pdf)
    assert "Print this page" not in text
    open_rules = [s.rule.id for s in audit.rules if s.counts[State.NO_EVIDENCE]]
    assert all(f"{rule}, No evidence: the subjects" in text for rule in open_rules)


def test_without_script_everything_can_be_read(browser: Browser, written: dict[str, Path]) -> None:
    with browser.new_page(java_script_enabled=False) as opened:
        opened.goto(written["html"].as_uri())
        assert opened.locator(".rule").first.is_visible()
        assert opened.locator("#integrity").is_visible()


def test_the_german_page_is_as_accessible(browser: Browser, audit: Audit, tmp_path: Path) -> None:
    written = write_reports(audit, tmp_path, ("html",), look=Look(language="de"))
    with browser.new_page() as opened:
        opened.goto(written["html"].as_uri())
        assert Axe().run(opened).violations_count == 0
        assert opened.evaluate("document.documentElement.lang") == "de"
