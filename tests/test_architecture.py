"""The house rules that a machine can hold (CONTRIBUTING.md lists them); a failure says what to do."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("corporation", "factory_tasks", "hq_api")
MODULES = [*sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py")), ROOT / "celeryconfig.py"]
SOUP = {"util", "utils", "helper", "helpers", "common", "misc", "manager", "managers", "service", "services", "base"}
CLOCKS = {"now", "utcnow", "today", "time", "time_ns"}
CHANCE = {"uuid1", "uuid4", "random", "randint", "choice"}

# Where the environment may be read: the settings' own module and the edges of processes.
MAY_READ_ENVIRONMENT = {
    "corporation/delegation/consumer.py",
    "corporation/engine/__main__.py",
    "factory_tasks/attempt_mark.py",  # reads nothing: it marks what the processes of an attempt inherit
    "factory_tasks/node.py",
    "hq_api/__main__.py",
    "hq_api/app.py",
    "hq_api/telegram.py",
}
MAY_READ_ENVIRONMENT_BELOW = ("corporation/cli/",)
# A program of its own that must not import the package: it has to start in milliseconds and outlive everything.
STANDS_ALONE = {"factory_tasks/tether.py"}

TESTS = sorted((ROOT / "tests").rglob("*.py"))
# What it is for: a mission that hangs in every way there is.
MAY_SLEEP = {"tests/integration/stubborn_kind.py"}


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@pytest.fixture(autouse=True, scope="module")
def _read_once() -> Iterator[None]:  # pyright: ignore[reportUnusedFunction]
    """Each module is read and parsed once for all rules, and forgotten after the last one."""
    yield
    for each in (text_of, tree_of, nodes_of):
        each.cache_clear()


@cache
def text_of(path: Path) -> str:
    return path.read_text()


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(text_of(path))


@cache
def nodes_of(path: Path) -> list[ast.AST]:
    return list(ast.walk(tree_of(path)))


def functions(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    return (node for node in nodes_of(path) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


def lines_without_docstring(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    whole = (function.end_lineno or function.lineno) - function.lineno + 1
    first = function.body[0]
    if ast.get_docstring(function) is None:
        return whole
    return whole - ((first.end_lineno or first.lineno) - first.lineno + 1)


def calls(path: Path) -> Iterator[tuple[ast.Call, str, str]]:
    """Every call of the form `owner.name(…)`."""
    for node in nodes_of(path):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            owner = node.func.value
            yield node, str(getattr(owner, "id", getattr(owner, "attr", ""))), node.func.attr


def test_a_module_is_short_and_says_what_it_is_for() -> None:
    silent = [name_of(path) for path in MODULES if not ast.get_docstring(tree_of(path))]
    long = [name_of(path) for path in MODULES if len(text_of(path).splitlines()) > 400]

    assert not silent, f"begin with one sentence that says what it is for: {silent}"
    assert not long, f"over 400 lines; split it by step: {long}"


def test_a_module_is_named_after_what_it_does() -> None:
    empty = {name_of(path): words for path in MODULES if (words := set(path.stem.split("_")) & SOUP)}

    assert not empty, f"such words say nothing; name the step or the thing: {empty}"


def test_a_function_fits_on_a_page() -> None:
    long = [
        f"{name_of(path)}:{function.lineno} {function.name}"
        for path in MODULES
        for function in functions(path)
        if lines_without_docstring(function) > 50
    ]

    assert not long, f"over 50 lines, split them by step: {long}"


def test_what_is_public_has_a_docstring() -> None:
    bare = [
        f"{name_of(path)}:{node.lineno} {node.name}"
        for path in MODULES
        if "migrations/versions" not in name_of(path)
        for node in public(tree_of(path))
        if not ast.get_docstring(node) and not is_a_property_of_a_protocol(node)
    ]

    assert not bare, f"say what is true afterwards: {bare}"


def public(tree: ast.Module) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef]:
    """What a module gives to others: its functions and classes, and the methods of those."""
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            yield node
            if isinstance(node, ast.ClassDef):
                methods = (each for each in node.body if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef))
                yield from (each for each in methods if not each.name.startswith("_"))


def is_a_property_of_a_protocol(node: ast.AST) -> bool:
    """`def name(self) -> str: ...` declares a shape; the class's docstring speaks for it."""
    body = getattr(node, "body", [])
    return len(body) == 1 and isinstance(body[0], ast.Expr) and getattr(body[0].value, "value", None) is ...


def test_only_the_clock_looks_at_time_and_chance() -> None:
    looks = [
        f"{name_of(path)}:{call.lineno} {owner}.{name}()"
        for path in MODULES
        if name_of(path) not in {"corporation/clock.py", *STANDS_ALONE}
        for call, owner, name in calls(path)
        if (owner in {"datetime", "date", "time"} and name in CLOCKS | {"monotonic"})
        or (owner in {"uuid", "random"} and name in CHANCE)
    ]

    assert not looks, f"take `now`, `chance` or `new_id` as an argument, or ask corporation.clock: {looks}"


def test_only_the_edges_read_the_environment() -> None:
    reads = [
        f"{name_of(path)}:{node.lineno}"
        for path in MODULES
        if name_of(path) not in MAY_READ_ENVIRONMENT and not name_of(path).startswith(MAY_READ_ENVIRONMENT_BELOW)
        for node in nodes_of(path)
        if isinstance(node, ast.Attribute)
        and node.attr in {"environ", "getenv"}
        and getattr(node.value, "id", "") == "os"
    ]

    assert not reads, f"take Settings as an argument: {reads}"


def test_nothing_below_the_edge_commits() -> None:
    commits = [
        f"{name_of(path)}:{call.lineno}"
        for path in MODULES
        if name_of(path) != "corporation/db.py"
        for call, owner, name in calls(path)
        if name == "commit" and owner in {"connection", "session", "db"}
    ]

    assert not commits, f"one transaction per request or tick, opened by corporation.db.transaction: {commits}"


def test_nothing_reaches_the_broker_but_through_the_outbox() -> None:
    sends = [
        f"{name_of(path)}:{call.lineno} .{name}()"
        for path in MODULES
        if name_of(path) != "factory_tasks/broker.py"
        for call, _, name in calls(path)
        if name in {"delay", "apply_async", "send_task"}
    ]

    assert not sends, f"write an outbox row; the engine sends it: {sends}"


def test_headquarters_never_builds_a_result_object_from_a_row_a_factory_wrote() -> None:
    builders = [name_of(path) for path in MODULES if "AsyncResult(" in text_of(path)]

    assert not builders, f"read the mailbox with SQL and json, it is hostile input: {builders}"


def test_no_test_sleeps() -> None:
    """A sleep is only the pause of a loop that looks for something; an event that nobody else knows is a sleep too."""
    sleeps = [
        f"{name_of(path)}:{call.lineno}" for path in TESTS if name_of(path) not in MAY_SLEEP for call in sleeps_in(path)
    ]

    assert not sleeps, f"wait for something, with `wait_until` or a signal: {sleeps}"


def sleeps_in(path: Path) -> list[ast.Call]:
    text = path.read_text()
    if "sleep" not in text and "Event" not in text:
        return []  # no form of it comes without one of the two
    nodes = list(ast.walk(ast.parse(text)))
    loops = [node for node in nodes if isinstance(node, ast.While) and not isinstance(node.test, ast.Constant)]
    pauses = {call for loop in loops for call in ast.walk(loop)}
    return [node for node in nodes if isinstance(node, ast.Call) and is_a_sleep(node) and node not in pauses]


def is_a_sleep(call: ast.Call) -> bool:
    """`sleep(1)`, `time.sleep(1)`, `asyncio.sleep(1)`, `Event().wait(1)` and `threading.Event().wait(1)`."""
    name = getattr(call.func, "id", getattr(call.func, "attr", ""))
    owner = getattr(call.func, "value", None)
    made_by = getattr(owner, "func", None)
    new_event = "Event" in (getattr(made_by, "id", ""), getattr(made_by, "attr", ""))
    return name == "sleep" or (name == "wait" and new_event and bool(call.args or call.keywords))


@pytest.mark.parametrize(
    ("code", "sleeps"),
    [
        ("time.sleep(1)", True),
        ("sleep(1)", True),
        ("asyncio.sleep(1)", True),
        ("threading.Event().wait(1)", True),
        ("Event().wait(timeout=1)", True),
        ("asyncio.Event().wait()", False),
        ("told.wait(1)", False),
        ("wait_until(told.is_set)", False),
    ],
)
def test_a_sleep_is_known_in_every_form(code: str, sleeps: bool) -> None:
    call = ast.parse(code, mode="eval").body

    assert isinstance(call, ast.Call)
    assert is_a_sleep(call) == sleeps


def test_each_row_of_the_crash_table_names_its_test_and_no_fault_test_is_missing_there() -> None:
    table = (ROOT / "corporation/missions/README.md").read_text().partition("## The crash table")[2]
    rows = [line.split("|")[1:-1] for line in table.splitlines() if line.startswith("| ")][1:]
    named = set(re.findall(r"`(\w+)`", "".join([*(row[-1] for row in rows), table.partition("Beside the table")[2]])))
    there = {path.stem.removeprefix("test_") for path in (ROOT / "tests/faults").glob("test_*.py")}

    assert len(rows) > 10
    assert [row[0].strip() for row in rows if not set(re.findall(r"`(\w+)`", row[-1])) & there] == []
    assert sorted(there ^ named) == [], "the crash table and tests/faults name different tests"


def test_the_layers_hold() -> None:
    """The import contracts of pyproject.toml: who may know whom."""
    answer = subprocess.run(
        [sys.executable, "-c", "from importlinter.cli import lint_imports_command; lint_imports_command()"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )

    assert answer.returncode == 0, answer.stdout + answer.stderr


def test_every_core_module_has_a_layer() -> None:
    """A module that no contract names could import anything; give it a layer in pyproject.toml."""
    contracts = (ROOT / "pyproject.toml").read_text()
    names = {
        "corporation." + path.relative_to(ROOT / "corporation").as_posix().removesuffix(".py").split("/")[0]
        for path in (ROOT / "corporation").rglob("*.py")
        if path.name != "__init__.py" or path.parent != ROOT / "corporation"
    }

    homeless = sorted(name for name in names if name not in contracts)
    assert not homeless, f"not in an import contract: {homeless}"


def test_the_lock_file_names_public_hosts_only() -> None:
    hosts = set(re.findall(r"https?://([^/\"]+)", (ROOT / "uv.lock").read_text()))

    assert hosts <= {"pypi.org", "files.pythonhosted.org"}, "lock again without UV_DEFAULT_INDEX"


def test_no_committed_file_names_a_private_place() -> None:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True)
    tracked = listed.stdout.split("\n")
    private = re.compile(r"/(?:root|home|work|tmp/lead)/[a-z]|(?:pypi|npm|index)\.[a-z.]*(?:corp|internal|local)\b")
    found = [
        name
        for name in tracked
        if name
        and name != "tests/test_architecture.py"
        and (ROOT / name).is_file()
        and private.search((ROOT / name).read_text(errors="replace"))
    ]

    assert not found, f"these files name a place that only one machine has: {found}"
