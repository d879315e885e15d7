"""Every rule of the contracts that the product keeps today is named by the tests that prove it."""

import re
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parent
CITED = {
    rule
    for path in TESTS.rglob("test_*.py")
    if path.name != Path(__file__).name
    for rule in re.findall(r"\b[EHS]-\d+\b", path.read_text())
}
ENVIRONMENT = [f"E-{number}" for number in range(1, 17)]
HTTP = [f"H-{number}" for number in range(1, 16)]
STREAMS = [f"S-{number}" for number in range(1, 43)]


@pytest.mark.parametrize("rule", [*ENVIRONMENT, *HTTP, *STREAMS])
def test_a_rule_has_a_test_that_names_it(rule: str) -> None:
    assert rule in CITED, f"write {rule} into the docstring of the test that proves it"
