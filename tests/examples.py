"""How many examples the tests make up that search for a counterexample: a few, or many with `ops/test --thorough`."""

import os
from typing import Final

THOROUGH: Final = os.environ.get("CORPORATION_TESTS") == "thorough"


def times(few: int, many: int) -> int:
    """`few`, always the same ones, so that a run is quick and its verdict repeatable; `many` when asked for."""
    return many if THOROUGH else few
