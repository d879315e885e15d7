"""schemathesis over the whole description with each scope: no 5xx, nobody let in, every answer as described.

`SECURITY_EXAMPLES` says how far it searches: 10 keep to about a minute, 60 are tried with `ops/test --thorough`.
"""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import every_route
import pytest
from every_route import CALLERS, Known, Operation
from examples import times
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

# `every_route` is imported first: it says where the served application of the contracts' tests lies.
from canary import MARK, shows  # isort: skip
from served_api import Api, forgetful  # isort: skip

EXAMPLES: Final = int(os.environ.get("SECURITY_EXAMPLES") or times(10, 60))
"""Requests of each kind (as described, and not) to each address that lets the caller in; a fifth where it does not."""
OPERATIONS: Final = every_route.operations()
CREDENTIALS: Final = frozenset({"authorization", "x-ua-ops-token", "x-ua-internal-token", "cookie"})
STREAM: Final = "/api/v1/missions/{job_id}/log"
MEASURE: Final = settings(
    deadline=None, database=None, derandomize=True, suppress_health_check=list(HealthCheck), print_blob=False
)


@pytest.fixture(scope="module")
def inhabited(
    module_servers: tuple[str, str], wait_until: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Api, Known]]:
    folder: Path = tmp_path_factory.mktemp("artifacts")
    with every_route.inhabited(*module_servers, wait_until, folder) as all_of_it:
        yield all_of_it


@pytest.fixture(scope="module")
def schema() -> Any:
    from schemathesis import openapi

    return openapi.from_dict(every_route.description())


def cases(schema: Any, operation: Operation, known: Known, *, good: bool) -> st.SearchStrategy[Any]:
    """Requests as `operation` describes them, or against it; half of the names in the address are of what is there."""
    from schemathesis import GenerationMode

    mode = GenerationMode.POSITIVE if good else GenerationMode.NEGATIVE
    names = [part[1:-1] for part in operation.path.split("/") if part.startswith("{")]

    @st.composite
    def case(draw: st.DrawFn) -> Any:
        drawn = draw(schema[operation.path][operation.method].as_strategy(generation_mode=mode))
        for name in names:
            if draw(st.booleans()):
                drawn.path_parameters[name] = draw(st.sampled_from(known.by_parameter[name]))
        return bounded(drawn, operation)

    return case()


def bounded(case: Any, operation: Operation) -> Any:
    """The same, waiting for nothing that takes its time on purpose."""
    if operation.path == STREAM:  # of a mission that is there it would last for ten minutes
        case.path_parameters["job_id"] = f"never-{case.path_parameters['job_id']}"
    if (
        isinstance(case.body, dict)
        and "wait_seconds" in case.body
        and isinstance(case.body["wait_seconds"], float | int)
    ):
        case.body["wait_seconds"] = min(case.body["wait_seconds"], 0)
    case.headers = {name: value for name, value in (case.headers or {}).items() if name.lower() not in CREDENTIALS}
    case.cookies = {}
    return case


def problems_of(case: Any, response: Any, caller: str, operation: Operation) -> list[str]:
    """What is wrong with this answer, by the checks of schemathesis and by our own."""
    from schemathesis import checks

    allowed = operation.scopes is None or caller in operation.scopes
    status = response.status_code
    found: list[str] = []
    if status == 404 and response.json() == {"detail": "Not Found"}:
        return []  # a name with a slash in it, where none can have one: to the router it is another address
    if status >= 500:
        found.append(f"answered {status}")
    if operation.scopes is not None and caller == "nobody" and status not in (401, 400):
        found.append(f"let a stranger in: {status}")
    if operation.scopes is not None and caller != "nobody" and not allowed and status not in (403, 400):
        found.append(f"let the scope {caller} in: {status}")
    if status >= 400 and "detail" not in response.json():
        found.append("refused in another shape than H-3")
    if shows(response.content):
        found.append("showed a secret")
    try:
        case.validate_response(
            response,
            checks=[
                checks.status_code_conformance,
                checks.content_type_conformance,
                checks.response_schema_conformance,
                checks.response_headers_conformance,
            ],
        )
    except BaseException as failure:
        found.append(str(failure))
    return found


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.name)
def test_no_request_breaks_it_and_every_answer_is_as_described(
    inhabited: tuple[Api, Known], schema: Any, operation: Operation
) -> None:
    """H-3, H-7, H-10."""
    api, known = inhabited
    good = cases(schema, operation, known, good=True)
    asked = [good, cases(schema, operation, known, good=False)] if takes_anything(operation) else [good]
    for caller in (*CALLERS, "nobody"):
        let_in = operation.scopes is None or caller in operation.scopes
        for kind in asked if let_in else [good]:
            search(api, operation, caller, kind, EXAMPLES if let_in else max(2, EXAMPLES // 5))


def takes_anything(operation: Operation) -> bool:
    """Whether there is anything that a caller could get wrong."""
    return bool(operation.says.get("parameters") or operation.says.get("requestBody"))


def search(api: Api, operation: Operation, caller: str, kind: st.SearchStrategy[Any], examples: int) -> None:
    shown = {"Authorization": f"Bearer {every_route.tokens()[caller]}"} if caller != "nobody" else {}

    @settings(MEASURE, max_examples=examples)
    @given(kind)
    def ask(case: Any) -> None:
        response = case.call(base_url=forgetful(api).url, headers=shown)
        found = problems_of(case, response, caller, operation)
        assert not found, f"{found}\n{case.as_curl_command()}\n{response.content[:500]!r}"

    ask()


def test_the_secrets_of_this_server_are_such_that_a_leak_would_be_seen() -> None:
    assert all(MARK in secret for secret in (every_route.OPS_TOKEN, every_route.JWT_SECRET))
