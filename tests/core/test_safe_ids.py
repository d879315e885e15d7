"""Under which names a factory may join."""

import pytest

from corporation.factories.ids import why_unsafe


@pytest.mark.parametrize("factory_id", ["desk-7", "7", "Desk_7.example.org", "a:b", "x" * 200])
def test_a_name_that_is_read_the_same_everywhere_is_taken(factory_id: str) -> None:
    assert why_unsafe(factory_id) is None


@pytest.mark.parametrize(
    "factory_id",
    ["", " ", "a b", "a/b", "../c", ".hidden", "-x", "a\n", "a\u202eb", "b\u00fcro", "*", "x" * 201, "a%2Fb"],
)
def test_any_other_is_refused_with_what_is_taken(factory_id: str) -> None:
    assert "letters, digits" in (why_unsafe(factory_id) or "")
