"""A factory that HQ shuts out is told so by its terminal and its doctor, with what to do; and once, that it is over."""

from dataclasses import replace
from pathlib import Path

import pytest
from served_api import Api
from test_factory_joins import Told, code_from, environment, join_as
from test_factory_joins import api as api
from test_factory_joins import module_api as module_api
from test_factory_joins import state as state

from corporation.cli.checks import examine
from corporation.cli.factory_access import quarantine, release
from corporation.cli.factory_running import factory_launch
from corporation.cli.finding import Finding
from corporation.cli.hqs_door import HqsDoor
from corporation.cli.membership import joined, keep
from corporation.cli.stack_building import stack_for
from corporation.embedded.stack_facts import facts_of
from corporation.embedded.stack_state import StateFolder
from corporation.federation import notes
from corporation.federation.spool import Spool
from corporation.settings import load_settings
from corporation.trust.keyring import kid_of
from factory_tasks.heartbeat import send_beat
from factory_tasks.node import build_node

KEY = "Kw8Ww7H9xdaPf2JneQ57NtXgJ4OzuUPK2jvppJbs4tc="


@pytest.fixture
def folder(api: Api, state: Path, capsys: Told) -> StateFolder:
    """Desk-7 has joined, and its folder is as a run leaves it."""
    join_as(api, state, code_from(capsys))
    folder = StateFolder(state)
    launch = factory_launch(joined(folder).environment(environment()))
    folder.write_facts(facts_of(stack_for(folder, launch, None, None), launch.environ))
    return folder


def beat(folder: StateFolder) -> bool:
    """Whether HQ took a beat of a process of this factory that has just started."""
    own = {"FACTORY_ROLE": "LOCAL_WORKER", "UA_VP_DB_PATH": str(folder.spool("factory"))}
    here = build_node(load_settings(own | joined(folder).environment(environment())))
    assert here.hq is not None
    try:
        return send_beat(here, "test")
    finally:
        here.hq.close()


def shut_out() -> None:
    quarantine("desk-7", note=None, as_json=False, state=None)


def let_in() -> None:
    release("desk-7", note=None, as_json=False, state=None)


def test_the_terminal_says_once_that_hq_shuts_the_factory_out_and_once_that_it_lets_it_in(folder: StateFolder) -> None:
    seconds = iter(range(100))
    door = HqsDoor(folder, joined(folder), moment=lambda: float(next(seconds)))

    def told_after_a_beat(*, taken: bool) -> list[str]:
        assert beat(folder) is taken
        return door.lines()

    assert told_after_a_beat(taken=True) == []
    shut_out()
    [shut, meanwhile] = told_after_a_beat(taken=False)
    assert told_after_a_beat(taken=False) == []
    let_in()
    [back] = told_after_a_beat(taken=True)
    assert told_after_a_beat(taken=True) == []
    assert "in quarantine, which only HQ's operator can end (at HQ: `corporation release desk-7`)" in shut
    assert "takes no missions until then" in meanwhile
    assert "accepts the credential of desk-7 again" in back


def test_what_an_earlier_run_heard_is_not_told_by_the_next_one(folder: StateFolder) -> None:
    shut_out()
    beat(folder)
    let_in()

    assert HqsDoor(folder, joined(folder)).lines() == []


def findings(folder: StateFolder) -> dict[str, Finding]:
    return {one.name: one for one in examine(environment(), folder)}


def test_doctor_says_that_only_the_operator_of_hq_ends_a_quarantine(folder: StateFolder) -> None:
    well = findings(folder)
    shut_out()
    shut = findings(folder)

    assert (well["token"].grade, well["token"].what) == ("ok", "HQ exchanges UA_FACTORY_CREDENTIAL")
    assert (shut["token"].grade, shut["token"].exit_code) == ("problem", 78)
    assert "in quarantine, which only HQ's operator can end" in shut["token"].what
    assert "set UA_FACTORY_CREDENTIAL" not in shut["token"].what


@pytest.mark.parametrize(
    ("why", "advice"), [("unknown_key", "join again"), ("signature_expired", "let both machines set their time")]
)
def test_doctor_says_whether_the_factory_trusts_the_keys_that_hq_signs_with(
    folder: StateFolder, why: str, advice: str
) -> None:
    unsigned = findings(folder)["mission keys"]
    keep(folder, replace(joined(folder), mission_keys=(KEY,)))
    trusts = findings(folder)["mission keys"]
    Spool(folder.spool("factory")).note(notes.KEYS_REFUSED, why)
    refused = findings(folder)["mission keys"]

    assert (unsigned.grade, trusts.grade, refused.grade) == ("warning", "ok", "problem")
    assert trusts.what == f"runs what HQ signs with {kid_of(KEY)}"
    assert (why in refused.what, advice in refused.advice, refused.exit_code) == (True, True, 78)


def test_doctor_says_whose_releases_the_factory_takes(folder: StateFolder) -> None:
    none = findings(folder)["release keys"]
    own = {one.name: one for one in examine(environment() | {"UA_UPDATE_KEYS": KEY}, folder)}["release keys"]

    assert (none.grade, none.what) == ("ok", "none (UA_UPDATE_KEYS): it trusts no release")
    assert own.what == f"takes releases that are signed with {kid_of(KEY)}"
