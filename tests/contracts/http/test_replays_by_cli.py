"""The command line's replays with a changed order, at a real headquarters."""

import os
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any
from unittest.mock import patch

from served_api import OPS_TOKEN, Api
from test_dead_letters import failed

from corporation.cli.app import run

Order = Callable[..., dict[str, Any]]


def said(api: Api, folder: Path, *words: str) -> tuple[int, str]:
    """How the command ended, and all that it said."""
    given = {"PATH": os.environ["PATH"], "UA_HQ_BASE_URL": api.url, "UA_OPS_TOKEN": OPS_TOKEN}
    out = StringIO()
    with patch.dict(os.environ, given, clear=True), redirect_stdout(out), redirect_stderr(out):
        return run([*words, "--state", str(folder)]), out.getvalue()


def test_a_letter_and_then_its_mission_run_with_a_changed_order(api: Api, order: Order, tmp_path: Path) -> None:
    letter = failed(api, order, timeout_seconds=3, payload={"task": "x", "context": {"a": 1, "_retry_count": 1}})
    first = said(api, tmp_path, "dead-letters", "replay", letter, "--timeout", "30", "--context", '{"b": 2}')
    again = said(api, tmp_path, "dead-letters", "replay", letter, "--timeout", "60")
    second = said(api, tmp_path, "missions", "replay", "j-1", "--priority", "0", "--key", "k")
    same = said(api, tmp_path, "missions", "replay", "j-1", "--priority", "0", "--key", "k")
    early = said(api, tmp_path, "missions", "replay", "j-1-r1")

    assert [status for status, _ in (first, again, second, same, early)] == [0, 65, 0, 0, 65]
    assert f"{letter}  runs again as j-1-r1" in first[1]
    assert "No factory that could run general_task is online at present: corporation why j-1-r1" in first[1]
    assert "ran again before, as j-1-r1 (waiting)" in again[1]
    assert all("j-1 runs again as j-1-r2 (waiting)" in words for _, words in (second, same))
    assert "corporation missions cancel j-1-r1 --wait" in early[1]
    stored = api.ops.get("/api/v1/missions/j-1-r1").json()
    assert (stored["timeout_seconds"], stored["envelope"]["payload"]["context"]) == (30, {"a": 1, "b": 2})
    assert api.stored() == 3


def test_the_same_key_with_another_order_is_told_apart(api: Api, tmp_path: Path) -> None:
    first, same, other = (
        said(api, tmp_path, "publish", task, "--key", "k", "--kind", "general_task") for task in ("x", "x", "y")
    )

    assert "Published" in first[1]
    assert "another order" not in same[1]
    assert "that mission has another order, which differs in task" in other[1]


def test_a_target_that_never_registered_is_told_with_the_list_of_factories(api: Api, tmp_path: Path) -> None:
    status, words = said(api, tmp_path, "publish", "x", "--target", "vn")
    expected, hint = said(api, tmp_path, "publish", "x", "--target", "vn", "--expected")

    assert (status, expected) == (66, 0)
    assert "HQ knows no factory vn; `corporation factories` lists them" in words
    assert "The factory that it is meant for has not registered yet: corporation why" in hint
