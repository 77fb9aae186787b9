"""docs/policies.md: its examples are sound, and what it names exists."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from mlflow_carbon.policy.facts import NAMESPACES
from mlflow_carbon.policy.layout import PACK, RULE
from mlflow_carbon.policy.load import load_pack, shipped_packs
from mlflow_carbon.policy.operators import OPERATORS
from tests.policy.conftest import HEAD, PackOf, policy_text

TEXT = (Path(__file__).parents[2] / "docs" / "policies.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```yaml\n(.*?)```", TEXT, re.DOTALL)
PARAMETERS = "parameters: {max_energy_kwh: {type: number, default: 5, unit: kWh}}\n"


def test_every_operator_namespace_and_key_is_described() -> None:
    for name in (*OPERATORS, *NAMESPACES):
        assert f"`{name}`" in TEXT or f"{{{name}: " in TEXT, name
    for key in (*PACK, *RULE):
        if key not in ("apiVersion", "kind", "metadata", "frameworks"):
            assert key in TEXT, key


@pytest.mark.parametrize("block", BLOCKS, ids=[block.strip().splitlines()[0] for block in BLOCKS])
def test_every_example_is_a_part_of_a_sound_policy(pack_of: PackOf, block: str) -> None:
    first = block.strip().split(":")[0].split("\n")[0]
    if first in ("use", "extends"):
        assert pack_of(HEAD + block).rules
    elif first == "parameters":
        assert pack_of(policy_text("assert: {metric: a, at_most: 1}", head=block)).parameters
    elif first == "waivers":
        base = f"{HEAD}use: [{{rule: baseline/ENE-006}}]\n"
        assert pack_of(base + block).waivers
    elif first.startswith("- id"):
        assert pack_of(f"{HEAD}{PARAMETERS}rules:\n{block}").rules
    else:
        lines = [line[4:] for line in block.splitlines()]
        scope = "pair" if "baseline" in block else "run"
        if lines[0].startswith("scope"):
            scope, lines = lines[0].split(": ")[1], lines[1:]
        lines += ["baseline: champion"] if scope == "pair" else []
        assert pack_of(policy_text("\n".join(lines), scope=scope, head=PARAMETERS)).rules


def test_every_rule_id_named_in_the_table_exists() -> None:
    known = {rule.id for name in shipped_packs() for rule in load_pack(name).rules}
    named = set(re.findall(r"\b(?:ENE|CAR|EFF|DAT|EVL|SEC|DOC|GOV|REL|MON|INT)-\d{3}\b", TEXT))
    assert named <= known
