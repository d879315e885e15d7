"""Nobody at HQ builds a result object of Celery's, or loads one: a factory wrote the row that it would be made from.

An import contract sees `celery.result` and not `app.AsyncResult`; this looks at every word of every module.
"""

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parent.parent.parent
SOURCES: Final = [
    *(path for package in ("corporation", "hq_api", "factory_tasks", "ops") for path in (ROOT / package).rglob("*.py")),
    ROOT / "celeryconfig.py",
]
RESULT_OBJECTS: Final = {
    *("AsyncResult", "GroupResult", "ResultSet", "EagerResult", "ResultBase", "result_from_tuple"),
    *("allow_join_result", "get_task_meta", "get_state"),
}
LOADS_OBJECTS: Final = {
    "pickle",
    "_pickle",
    "cPickle",
    "cloudpickle",
    "dill",
    "marshal",
    "shelve",
    "jsonpickle",
    "joblib",
}
SENDS: Final = {"send_task", "apply_async", "delay", "apply"}
READS: Final = {"get", "result", "state", "status", "wait", "info", "ready", "successful", "failed", "collect"}


def result_objects(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Names, attributes, imports, and texts as in `getattr(app, "AsyncResult")`."""
    for line, word in words_of(tree):
        if RESULT_OBJECTS & set(word.split(".")) or word.startswith("celery.result"):
            yield line, word


def words_of(tree: ast.AST) -> Iterator[tuple[int, str]]:
    for node in ast.walk(tree):
        match node:
            case ast.Import(names=names):
                yield from ((node.lineno, name.name) for name in names)
            case ast.ImportFrom(module=module, names=names):
                yield from ((node.lineno, f"{module}.{name.name}") for name in names)
            case ast.Attribute(attr=word) | ast.Name(id=word) | ast.Constant(value=str(word)):
                yield node.lineno, word
            case _:
                pass


def what_loads_objects(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Imports alone: the word "pickle" is also the name of a serializer that is refused."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, one.name) for one in node.names if one.name.split(".")[0] in LOADS_OBJECTS)
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in LOADS_OBJECTS:
            yield node.lineno, str(node.module)


def answers_waited_for(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """`.get()` and its like of what sending returns, at once or through a variable."""
    kept = {
        target.id
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign) and sends(node.value)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr in READS:
            of = node.value
            if sends(of) or (isinstance(of, ast.Name) and of.id in kept):
                yield node.lineno, node.attr


def sends(node: ast.expr) -> bool:
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in SENDS


RULES: Final = {
    "read the mailbox with SQL and strict_json": result_objects,
    "what is stored or sent is JSON": what_loads_objects,
    "HQ learns from its collector how an attempt ended": answers_waited_for,
}


@pytest.mark.parametrize("rule", RULES)
def test_no_module_of_ours_breaks_the_rule(rule: str) -> None:
    found = [
        f"{path.relative_to(ROOT)}:{line} {word}"
        for path in sorted(SOURCES)
        for line, word in RULES[rule](ast.parse(path.read_text()))
    ]

    assert not found, f"{rule}: {found}"


@pytest.mark.parametrize(
    ("rule", "source"),
    [
        (result_objects, "from celery.result import AsyncResult"),
        (result_objects, "import celery.result"),
        (result_objects, "app.AsyncResult('x').state"),
        (result_objects, "getattr(app, 'AsyncResult')('x')"),
        (result_objects, "make = app.AsyncResult"),
        (result_objects, "app.backend.get_task_meta('x')"),
        (what_loads_objects, "import pickle as p"),
        (what_loads_objects, "from pickle import loads"),
        (answers_waited_for, "app.send_task('x').get()"),
        (answers_waited_for, "sent = app.send_task('x')\nprint(sent.state)"),
    ],
)
def test_the_rule_is_broken_in_each_of_these_ways(rule: object, source: str) -> None:
    assert callable(rule)
    assert list(rule(ast.parse(source)))
