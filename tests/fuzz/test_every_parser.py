"""No parser raises what it does not declare, takes long, or shows a secret, whatever it is given.

`FUZZ_SECONDS` is for all of them together: 60 unless it is said, 600 with `ops/test --thorough`.
"""

import ast
import logging
import os
import re
from collections.abc import Iterator
from pathlib import Path
from time import thread_time
from typing import Any, Final

import pytest
import structlog
from canary import shows
from examples import times
from hypothesis import HealthCheck, given, seed, settings
from parsers import NO_PARSER, Parser, all_parsers

from corporation.clock import monotonic

ROOT: Final = Path(__file__).resolve().parents[2]
PARSERS: Final = all_parsers()
SECONDS: Final = float(os.environ.get("FUZZ_SECONDS") or times(60, 600)) / len(PARSERS)
LONGEST_SECONDS: Final = 1.0
"""Of the processor's time for one input, of which none has more than a few kilobytes."""
ROUND: Final = 25
CALLED_SO: Final = re.compile(r"(?:parse|read|judge|judged|decode|decoded|unseal|unpack|verify|from)(?:_[a-z_]+)?")
FORM: Final = re.compile(r"checked\((\w+Form),")


@pytest.fixture(autouse=True, scope="module")
def _silent() -> Iterator[None]:  # pyright: ignore[reportUnusedFunction]
    """What parsers log of each input would drown what a failure says."""
    before = structlog.get_config()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    yield
    structlog.configure(**before)


@pytest.mark.parametrize("parser", PARSERS, ids=[f"{number}-{one.name}" for number, one in enumerate(PARSERS)])
def test_a_parser_only_says_no_in_the_way_it_declares(parser: Parser) -> None:
    began, number = monotonic(), 0
    while number == 0 or monotonic() - began < SECONDS:
        number += 1
        _search(parser, number)


def _search(parser: Parser, number: int) -> None:
    @seed(number)
    @settings(max_examples=ROUND, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(parser.given)
    def read(given: Any) -> None:
        began, said = thread_time(), ""
        try:
            parser.read(given)
        except parser.declared as error:
            said = "" if parser.echoes else parser.words(error)
        assert not shows(said), f"shows what it was given: {said}"
        assert thread_time() - began < LONGEST_SECONDS, "takes too long"

    read()


def functions() -> Iterator[tuple[str, str]]:
    """Every public function of the product that is called like a parser, and its module."""
    for package in ("corporation", "factory_tasks", "hq_api"):
        for path in sorted((ROOT / package).rglob("*.py")):
            module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and CALLED_SO.fullmatch(node.name):
                    yield module, node.name


def test_every_function_that_is_called_like_a_parser_is_in_the_table() -> None:
    known = {parser.name for parser in PARSERS} | set(NO_PARSER)
    missing = [f"{module}:{name}" for module, name in functions() if f"{module}:{name}" not in known]

    assert not missing, f"add each to tests/fuzz, or to NO_PARSER with the reason: {missing}"


def test_the_table_names_nothing_that_is_not_there() -> None:
    there = {f"{module}:{name}" for module, name in functions()}

    assert not set(NO_PARSER) - there
    for parser in PARSERS:
        module, _, name = parser.name.partition(":")
        source = (ROOT / Path(*module.split(".")).with_suffix(".py")).read_text()
        assert re.search(rf"^\s*(?:async def|def|class) {name}\b|^{name}(?::| =)", source, re.MULTILINE), parser.name


def test_every_form_of_a_body_is_in_the_table() -> None:
    used = {form for path in (ROOT / "hq_api").rglob("*.py") for form in FORM.findall(path.read_text())}
    known = {parser.name.partition(":")[2] for parser in PARSERS}

    assert used <= known, f"add each to tests/fuzz/parsers_of_http.py: {used - known}"


def test_every_reason_why_something_is_no_parser_is_said() -> None:
    assert all(NO_PARSER.values())
