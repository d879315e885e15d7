"""Who waits for an HQ that says nothing is told so, and is not kept longer than it makes sense."""

import sys
from collections.abc import Callable
from contextlib import redirect_stderr
from io import StringIO
from threading import active_count
from typing import Any

import httpx
import pytest

from corporation import clock
from corporation.cli import exits
from corporation.cli.exits import Refusal
from corporation.cli.output import told_when_slow, working
from corporation.cli.tries import LOOK_SECONDS, answered

Wait = Callable[..., Any]
REFUSED = Refusal(exits.UNAVAILABLE, "HQ is not reached")


class Terminal(StringIO):
    """A standard error that a person looks at."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    monkeypatch.setattr(sys, "argv", ["corporation", "why", "j-1"])
    monkeypatch.setenv("TERM", "xterm")
    return Terminal()


def test_a_person_hears_what_is_waited_for(seen: Terminal, wait_until: Wait) -> None:
    with redirect_stderr(seen), told_when_slow("waiting for HQ", 0.01):
        wait_until(lambda: "waiting for HQ" in seen.getvalue(), 10, "the line")


def test_beside_a_spinner_it_says_so(seen: Terminal, wait_until: Wait) -> None:
    with redirect_stderr(seen), working("Asking HQ"), told_when_slow("waiting for HQ", 0.01):
        wait_until(lambda: "waiting for HQ" in seen.getvalue(), 10, "the spinner says it")


def test_what_is_quick_is_not_spoken_of(seen: Terminal) -> None:
    with redirect_stderr(seen), told_when_slow("waiting for HQ", 3600):
        pass

    assert seen.getvalue() == ""


@pytest.mark.parametrize(("words", "is_terminal"), [(["corporation", "why", "j-1", "--json"], True), (["x"], False)])
def test_programs_hear_nothing(
    monkeypatch: pytest.MonkeyPatch, seen: Terminal, words: list[str], is_terminal: bool
) -> None:
    monkeypatch.setattr(sys, "argv", words)
    monkeypatch.setattr(seen, "isatty", lambda: is_terminal)
    others = active_count()
    with redirect_stderr(seen), told_when_slow("waiting for HQ", 3600):
        assert active_count() == others


def asked(*outcomes: httpx.Response | Refusal, limit: float | None = None) -> tuple[Any, list[float]]:
    """What comes of it when HQ answers like this, one after the other, and the pauses between."""
    left, pauses = list(outcomes), list[float]()

    def send() -> httpx.Response:
        one = left.pop(0)
        if isinstance(one, Refusal):
            raise one
        return one

    try:
        return answered(send, 4, pauses.append, limit), pauses
    except Refusal as refusal:
        return refusal, pauses


def busy(seconds: float) -> httpx.Response:
    return httpx.Response(503, headers={"retry-after": str(seconds)})


def test_it_is_tried_again_until_there_is_an_answer() -> None:
    good = httpx.Response(200)

    assert asked(REFUSED, busy(5), good) == (good, [0.5, 5.0])
    assert asked(REFUSED, REFUSED, REFUSED, REFUSED) == (REFUSED, [0.5, 1.0, 2.0])


def test_nobody_who_only_looks_waits_for_a_try_that_would_begin_after_the_limit() -> None:
    late, first = busy(LOOK_SECONDS), busy(1)

    assert asked(late, limit=LOOK_SECONDS) == (late, [])
    assert asked(first, late, limit=LOOK_SECONDS) == (late, [1.0])
    began = clock.monotonic()
    assert asked(REFUSED, limit=0.0) == (REFUSED, [])
    assert clock.monotonic() - began < 5
