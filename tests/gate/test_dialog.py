"""What a person sees in MLflow's own pages when the gate refuses."""

from __future__ import annotations

from playwright.sync_api import expect

from tests.browser import chromium
from tests.gate.conftest import Api, Server


def test_the_alias_dialog_says_what_is_in_the_way_and_how_to_fix_it(server: Server) -> None:
    api = Api(server.url)
    api.seed("dialog", passes=False)
    with chromium() as browser:
        page = browser.new_page()
        page.set_default_timeout(60_000)
        page.goto(f"{server.url}/#/models/dialog/versions/1")
        page.get_by_role("button", name="Add", exact=True).click()
        page.get_by_role("combobox").last.click()
        page.keyboard.type("champion")
        page.keyboard.press("Enter")
        page.get_by_role("button", name="Save aliases").click()
        told = (
            page.get_by_role("dialog").get_by_role("alert").or_(page.get_by_text("is refused by"))
        )
        expect(told.first).to_contain_text("Alias 'champion' for 'dialog' version 1 is refused by")
        shown = page.get_by_role("dialog").inner_text()
    assert "1. REV-001 (high, no evidence): The version was reviewed" in shown
    assert "To fix: Set the version tag review to passed" in shown
    assert "mlflow-carbon gate check models:/dialog/1" in shown
    assert api.aliases("dialog") == {}
