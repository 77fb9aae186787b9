"""License names become SPDX expressions, or references of their own; never a guess."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from license_expression import get_spdx_licensing

from mlflow_carbon.datasets.license import NOT_KNOWN, normalized


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("MIT", "MIT"),
        ("mit", "MIT"),
        ("cc-by-4.0", "CC-BY-4.0"),
        ("CC BY 4.0", "CC-BY-4.0"),
        ("Apache 2.0", "Apache-2.0"),
        ("cc0", "CC0-1.0"),
        ("MIT AND CC-BY-4.0", "MIT AND CC-BY-4.0"),
        ("mit or apache-2.0", "MIT OR Apache-2.0"),
        ("GPL-2.0+", "GPL-2.0-or-later"),
        (
            "GPL-2.0-only WITH Classpath-exception-2.0",
            "GPL-2.0-only WITH Classpath-exception-2.0",
        ),
        ("https://creativecommons.org/licenses/by-sa/4.0/", "CC-BY-SA-4.0"),
        ("https://creativecommons.org/licenses/by-nc/4.0/deed.en", "CC-BY-NC-4.0"),
        ("https://creativecommons.org/publicdomain/zero/1.0/", "CC0-1.0"),
        ("https://opensource.org/licenses/MIT", "MIT"),
        ("https://spdx.org/licenses/ODbL-1.0.html", "ODbL-1.0"),
        ("https://choosealicense.com/licenses/mit/", "MIT"),
        ("openrail", "LicenseRef-openrail"),
        ("llama2", "LicenseRef-llama2"),
        ("proprietary", "LicenseRef-proprietary"),
        ("public domain", "LicenseRef-public-domain"),
        ("openrail AND MIT", "LicenseRef-openrail AND MIT"),
        ("LicenseRef-our-terms", "LicenseRef-our-terms"),
        ("My own terms or ask me", "LicenseRef-My-own-terms-or-ask-me"),
        ("CC-BY-SA-3.0 or later", "LicenseRef-CC-BY-SA-3.0-or-later"),
        ("https://example.org/terms", "LicenseRef-https-example.org-terms"),
        ("<script>alert(1)</script>", "LicenseRef-script-alert-1-script"),
        ("unknown", NOT_KNOWN),
        ("  ", NOT_KNOWN),
        ("((((", NOT_KNOWN),
    ],
)
def test_common_ways_to_write_a_license(text: str, expected: str) -> None:
    assert normalized(text) == expected


@given(st.text())
def test_any_text_gives_an_expression_that_spdx_tools_can_parse(text: str) -> None:
    result = normalized(text)
    if result != NOT_KNOWN:
        licensing = get_spdx_licensing()
        names = licensing.license_keys(result)
        assert names
        unknown = licensing.unknown_license_keys(result)
        assert all(name.startswith("LicenseRef-") for name in unknown)


@given(st.text())
def test_a_second_pass_changes_nothing(text: str) -> None:
    once = normalized(text)
    assert normalized(once) == once
