"""The lines that a person copies from the end of `corporation up`."""

import shlex
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

import corporation
from corporation.cli.what_next import what_next
from corporation.embedded.stack_environment import Stack
from corporation.embedded.stack_shape import Shape
from corporation.embedded.stack_state import default_state_folder

USUAL = default_state_folder(Path.cwd(), Path(corporation.__file__).parent).path
STACK = Stack(Path("/srv/my state"), "", "desk", "redis://h", "postgresql://h/x", 1, 2, "t", "j", "f", {})


@pytest.mark.parametrize(
    ("shape", "once"),
    [(shape, once) for shape in Shape for once in (True, False) if (shape, once) != (Shape.WORKER, False)],
)
def test_every_command_names_the_state_folder_unless_it_is_the_usual_one(shape: Shape, once: bool) -> None:
    there, here = (what_next(replace(STACK, shape=shape, state=state), once=once) for state in (STACK.state, USUAL))

    assert ["--state", "/srv/my state"] in [pair.split("\n") for pair in _pairs(there)]
    assert str(USUAL) not in here


def _pairs(text: str) -> list[str]:
    words = shlex.split(text.replace('"$(', "").replace(')"', ""))
    return [f"{first}\n{second}" for first, second in pairwise(words)]
