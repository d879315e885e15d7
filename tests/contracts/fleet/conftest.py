"""A served headquarters with one run to make repositories from, for programs that know the contract only."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.append(str(Path(__file__).parent.parent / "http"))  # the served application

from independent_factory import Client
from served_api import OPS_TOKEN, Api, registered, served, settings_for

RUN_PATH = "youtube-tutorial-creation/run-5"
SCRIPT = 'mkdir -p "$1/$2" && echo hello > "$1/$2/a.txt" && echo "Repo ready: $1/$2"\n'


@pytest.fixture(scope="module")
def hq(
    tmp_path_factory: pytest.TempPathFactory, module_servers: tuple[str, str], wait_until: Callable[..., Any]
) -> Iterator[Api]:
    """Headquarters, whose broker is not there: what is to be done goes over HTTP."""
    root = tmp_path_factory.mktemp("artifacts")
    folder = root / RUN_PATH / "implementation"
    folder.mkdir(parents=True)
    (folder / "create_new_repo.sh").write_text(SCRIPT)
    with served(settings_for(module_servers[0], UA_ARTIFACT_ROOT=str(root))) as api:
        registered(api, wait_until)
        yield api


@pytest.fixture(scope="module")
def ops(hq: Api) -> Iterator[Client]:
    """A program with the operators' token."""
    with Client(hq.url, OPS_TOKEN) as client:
        yield client
