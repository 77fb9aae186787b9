from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlflow_carbon.gate.protection import WITHOUT_POLICY, Protection, of
from mlflow_carbon.policy.model import Gate

GATE = Protection(aliases=("champion", "prod*"), stages=("Production",), models=("prod.*",))


@pytest.mark.parametrize(
    "alias",
    ["champion", "Champion", "CHAMPION", " champion", "champion ", "champion\n", "prod", "PROD-eu"],
)
def test_case_and_surrounding_space_do_not_lead_around_an_alias(alias: str) -> None:
    assert GATE.covers_alias(alias)


@pytest.mark.parametrize(
    "alias",
    [
        "\N{CYRILLIC SMALL LETTER ES}hampion",
        "champ\N{LATIN SMALL LETTER DOTLESS I}on",
        "\N{FULLWIDTH LATIN SMALL LETTER C}hampion",
        "cha\N{ZERO WIDTH SPACE}mpion",
    ],
)
def test_an_alias_that_only_looks_like_a_protected_one_is_protected(alias: str) -> None:
    assert GATE.covers_alias(alias)


@pytest.mark.parametrize("alias", ["candidate", "challenger", "champion2", "my-prod", ""])
def test_other_aliases_stay_open(alias: str) -> None:
    assert not GATE.covers_alias(alias)


def test_stages_are_compared_without_case_and_the_others_stay_open() -> None:
    assert GATE.covers_stage("PRODUCTION")
    assert GATE.covers_stage(" production ")
    assert not GATE.covers_stage("Staging")


def test_taking_a_version_out_of_use_is_never_gated() -> None:
    assert not WITHOUT_POLICY.covers_stage("Archived")
    assert not WITHOUT_POLICY.covers_stage("None")


def test_models_are_protected_by_pattern() -> None:
    assert GATE.covers_model("Prod.credit")
    assert not GATE.covers_model("credit.prod")


def test_without_a_readable_policy_every_alias_and_stage_is_protected() -> None:
    assert WITHOUT_POLICY.covers_alias("anything")
    assert WITHOUT_POLICY.covers_stage("Staging")
    assert WITHOUT_POLICY.covers_model("credit-production")
    assert not WITHOUT_POLICY.covers_model("credit")


@pytest.mark.parametrize("pattern", ["a[b]c", "a?c", "a.c", "a+", "(", "\\d"])
def test_only_the_star_is_special_in_a_pattern(pattern: str) -> None:
    assert of(Gate(models=(pattern,))).covers_model(pattern)
    assert not of(Gate(models=(pattern,))).covers_model("abc")


@settings(deadline=None)
@given(st.sampled_from(["champion", "prod-eu"]), st.lists(st.booleans(), min_size=8, max_size=8))
def test_no_mixture_of_upper_and_lower_case_is_open(alias: str, upper: list[bool]) -> None:
    mixed = "".join(
        c.upper() if up else c for c, up in zip(alias, [*upper, False, False], strict=False)
    )
    assert GATE.covers_alias(mixed)
