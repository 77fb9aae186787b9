"""The documents agree with the project: links lead somewhere, commands and settings exist."""

import re
from dataclasses import fields
from pathlib import Path

import pytest

from mlflow_carbon.cli.main import COMMANDS
from mlflow_carbon.settings import ENV_PREFIX, Settings

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
_LINK = re.compile(r"\]\(([^)#\s]+)(?:#[^)]*)?\)")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_relative_link_leads_to_a_file(page: Path) -> None:
    targets = [t for t in _LINK.findall(page.read_text("utf-8")) if "://" not in t]
    assert [t for t in targets if not (page.parent / t).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_command_named_exists(page: Path) -> None:
    named = set(
        re.findall(r"^(?:\$ )?mlflow-carbon ([a-z]+)", page.read_text("utf-8"), re.MULTILINE)
    )
    assert named <= set(COMMANDS)


def test_the_readme_names_settings_that_exist() -> None:
    named = set(re.findall(rf"{ENV_PREFIX}[A-Z_]+", (ROOT / "README.md").read_text("utf-8")))
    assert named
    assert named <= {ENV_PREFIX + field.name.upper() for field in fields(Settings)}
