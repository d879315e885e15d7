"""How the tests are shared among several processes: no file is torn apart that starts its servers once."""

from pathlib import Path

import pytest
from order import APART, LONGEST, place_of, share_of

ROOT = Path(__file__).resolve().parent.parent
CHAOS = "tests/faults/test_chaos.py"
ROLES = "tests/integration/test_stack_roles.py"


def test_every_file_that_has_a_place_is_there() -> None:
    assert [name for name in (*LONGEST, *APART) if not (ROOT / name).is_file()] == []
    assert len(set(LONGEST)) == len(LONGEST)


@pytest.mark.parametrize("name", sorted(APART))
def test_tests_that_may_run_apart_share_no_servers(name: str) -> None:
    text = (ROOT / name).read_text()

    assert "module_servers" not in text
    assert 'fixture(scope="module"' not in text


@pytest.mark.parametrize(
    ("nodeid", "share"),
    [
        (f"{CHAOS}::test_a", CHAOS),
        (f"{CHAOS}::test_b[1::2]", CHAOS),
        (f"{ROLES}::test_a[x]", f"{ROLES}::test_a[x]"),
    ],
)
def test_a_share_is_a_file_unless_its_tests_share_nothing(nodeid: str, share: str) -> None:
    assert share_of(nodeid) == share


def test_the_longest_files_come_first_and_the_others_keep_their_order() -> None:
    others = ["tests/core/test_a.py::test_b", "tests/core/test_a.py::test_a"]
    ids = [*others, f"{ROLES}::test_b", f"{CHAOS}::test_a", f"{ROLES}::test_a"]

    assert sorted(ids, key=place_of) == [f"{CHAOS}::test_a", f"{ROLES}::test_b", f"{ROLES}::test_a", *others]
