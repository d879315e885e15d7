"""`python -m factory_tasks.pull` as a real process: what it asks, runs and tells, and how it ends."""

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import certifi
import pytest
from pull_at_work import FACTORY, HandingHq, Pull, lives
from warm_starts import WarmStarts

from factory_tasks.pull.claims import REJOIN
from factory_tasks.system_missions import PAUSE, RESUME

Wait = Callable[..., Any]
NOT_CURRENT = (409, {"detail": "not_current: the attempt is no longer current; stop it, and do not retry"})
NO_CREDENTIAL = (401, {"detail": "Unauthorized"})


@pytest.fixture
def hq() -> Iterator[HandingHq]:
    with HandingHq() as hq:
        yield hq


@pytest.fixture
def pull(tmp_path: Path, wait_until: Wait, warm: WarmStarts, hq: HandingHq) -> Iterator[Pull]:
    with Pull(tmp_path, wait_until, warm, hq) as pull:
        yield pull


def test_an_attempt_is_begun_run_and_told_once(pull: Pull, hq: HandingHq, wait_until: Wait) -> None:
    """Without Redis and without a mailbox."""
    one = pull.start().hand_out(then="end")

    assert one.report()["result"] == {"echo": "t"}
    wait_until(lambda: not pull.spool.unreported(), 10, "it is marked")
    spoken = [route for route, about, _ in hq.heard if about == one.attempt_id]
    assert spoken[0] == "start"
    assert spoken.count("start") == spoken.count("result") == 1
    [first, *_] = hq.said("claim")
    assert (first["factory_id"], first["max"], first["holding"]) == (FACTORY, 1, [])
    assert {"stubborn", PAUSE, RESUME} <= set(first["mission_kinds"])


def test_an_attempt_whose_process_cannot_ask_hq_is_run_once_and_told(
    pull: Pull, hq: HandingHq, tmp_path: Path, wait_until: Wait
) -> None:
    """The file with HQ's authorities is gone, for one: each process reads it anew, and raises no error of HQ's."""
    authorities = tmp_path / "authorities.pem"
    authorities.write_bytes(Path(certifi.where()).read_bytes())
    pull.start(SSL_CERT_FILE=str(authorities))
    wait_until(lambda: hq.said("claim"), 20, "it asks")
    authorities.unlink()

    one = pull.hand_out(then="end")

    assert one.report()["result"] == {"echo": "t"}
    assert hq.said("start", one.attempt_id) == []
    wait_until(lambda: not pull.spool.unreported() and not pull.spool.running(), 10, "nothing of it is left")
    assert len(hq.said("result", one.attempt_id)) == 1


def test_it_asks_for_as_many_as_it_has_free_and_names_what_it_holds(
    pull: Pull, hq: HandingHq, tmp_path: Path, wait_until: Wait
) -> None:
    pull.slots = 3
    gate = tmp_path / "gate"
    one = pull.start().hand_out(then="wait", gate=str(gate)).begun()
    holds = [one.attempt_id]
    wait_until(lambda: hq.said("claim")[-1]["holding"] == holds, 20, "it is held")

    assert hq.said("claim")[-1]["max"] == 2
    gate.touch()
    one.report()
    wait_until(lambda: hq.said("claim")[-1]["holding"] == [], 20, "it is held no more")
    assert hq.said("claim")[-1]["max"] == 3


def test_a_full_factory_asks_for_orders_alone_and_gets_them(
    pull: Pull, hq: HandingHq, tmp_path: Path, wait_until: Wait
) -> None:
    """F-22: nobody has to wait for a slot to be paused."""
    gate = tmp_path / "gate"
    busy = pull.start().hand_out(then="wait", gate=str(gate)).begun()
    waits = pull.hand_out(then="end")
    order = pull.hand_out(PAUSE, note="moving the desk")

    assert order.report()["result"] == {"action": "pause", "note": "moving the desk"}
    assert set(hq.said("claim")[-1]["mission_kinds"]) == {PAUSE, RESUME}
    assert hq.said("result", busy.attempt_id) == hq.said("result", waits.attempt_id) == []


def test_a_paused_factory_finishes_what_it_has_and_takes_orders_only_until_it_is_resumed(
    pull: Pull, hq: HandingHq, tmp_path: Path, wait_until: Wait
) -> None:
    """F-20 to F-22."""
    pull.slots = 2
    gate = tmp_path / "gate"
    runs = pull.start().hand_out(then="wait", gate=str(gate)).begun()
    hq.instructions = {"paused": True, "draining": False}
    pull.hand_out(PAUSE).report()
    wait_until(lambda: set(hq.said("claim")[-1]["mission_kinds"]) == {PAUSE, RESUME}, 20, "it asks for orders alone")
    waits = pull.hand_out(then="end")
    gate.touch()

    assert runs.report()["outcome"] == "done"
    hq.instructions = {"paused": False, "draining": False}
    pull.hand_out(RESUME).report()
    assert waits.report()["outcome"] == "done"


def test_the_pause_outlives_the_process(pull: Pull, hq: HandingHq, wait_until: Wait) -> None:
    """F-20: also while HQ does not repeat it."""
    pull.start()
    pull.hand_out(PAUSE).report()
    pull.kill()
    hq.heard.clear()
    hq.down = {"registrations"}
    pull.start()

    wait_until(lambda: hq.said("claim"), 20, "it asks")
    assert all(set(body["mission_kinds"]) == {PAUSE, RESUME} for body in hq.said("claim"))


def test_what_headquarters_no_longer_wants_is_not_begun(pull: Pull, hq: HandingHq) -> None:
    """H-30; its slot is free at once."""
    unwanted, wanted = pull.hand_out(then="end"), pull.hand_out(then="end")
    hq.refused[("start", unwanted.attempt_id)] = NOT_CURRENT
    pull.start()

    assert wanted.report()["outcome"] == "done"
    assert not unwanted.told.exists()
    assert hq.said("result", unwanted.attempt_id) == []


def test_an_attempt_is_run_though_headquarters_went_away_after_handing_it_out(pull: Pull, hq: HandingHq) -> None:
    """Its lease runs already: a lost word costs no attempt."""
    hq.down = {"start"}

    assert pull.start().hand_out(then="end").report()["outcome"] == "done"


def test_reports_wait_for_headquarters_and_hold_up_nothing(pull: Pull, hq: HandingHq, wait_until: Wait) -> None:
    """M-13: in the order in which they were received, each once, and known to be held meanwhile."""
    hq.down = {"result"}
    many = [pull.start().hand_out(then="end")] + [pull.hand_out(then="end") for _ in range(2)]
    ids = [one.attempt_id for one in many]
    wait_until(lambda: [each for each, _ in pull.spool.unreported()] == ids, 30, "all have ended")
    wait_until(lambda: hq.said("claim")[-1]["holding"] == sorted(ids), 20, "HQ does not hand them out again")
    hq.down = set()

    assert [one.report()["outcome"] for one in many] == ["done"] * 3
    wait_until(lambda: not pull.spool.unreported(), 10, "all are marked")
    assert [about for route, about, _ in hq.heard if route == "result"] == ids


def test_reports_of_a_killed_process_are_told_by_the_next(pull: Pull, hq: HandingHq, wait_until: Wait) -> None:
    hq.down = {"result"}
    one = pull.start().hand_out(then="end")
    wait_until(lambda: pull.spool.unreported(), 30, "it has ended")
    pull.kill()
    hq.down = set()
    pull.start()

    assert one.report()["outcome"] == "done"
    assert len(hq.said("start", one.attempt_id)) == 1


def test_an_attempt_that_is_handed_out_twice_is_run_once(
    pull: Pull, hq: HandingHq, tmp_path: Path, wait_until: Wait
) -> None:
    """Also when it is claimed while a process works on it, whoever forgot that."""
    pull.slots = 2
    gate = tmp_path / "gate"
    one = pull.start().hand_out(then="wait", gate=str(gate)).begun()
    pids = one.told.read_text()
    one.told.unlink()
    hq.hand_out(one.order("stubborn", 600, {"then": "end"}))
    wait_until(lambda: "duplicate_dropped" in pull.log(), 20, "it was claimed again")
    gate.touch()

    assert one.report()["outcome"] == "done"
    wait_until(lambda: len(pull.children()) == 1, 20, "only the nursery is left")
    assert not one.told.exists(), f"only {pids} worked on it"


def test_a_cancelled_attempt_is_stopped_with_all_it_started(pull: Pull, hq: HandingHq, wait_until: Wait) -> None:
    one = pull.start().hand_out(starts=["program", "daemon"]).begun()
    hq.cancelled[one.attempt_id] = "no longer wanted"

    assert (one.report()["outcome"], one.report()["error"]) == ("cancelled", "no longer wanted")
    wait_until(lambda: not one.left(), 20, "nothing of it lives")


@pytest.mark.parametrize("then", ["sleep", "in_c"])
def test_the_time_limit_is_kept_whatever_the_handler_does(pull: Pull, then: str, wait_until: Wait) -> None:
    """S-31; and the next one finds a free slot."""
    one = pull.start().hand_out(seconds=3, starts=["daemon"], then=then)

    assert one.report()["outcome"] == "timed_out"
    wait_until(lambda: not one.left(), 20, "nothing of it lives")
    assert pull.hand_out(then="end").report()["outcome"] == "done"


def test_an_attempt_whose_process_is_killed_is_told_lost_at_once(pull: Pull, wait_until: Wait) -> None:
    """What it started goes with it, and its factory goes on."""
    one = pull.start().hand_out(starts=["program"], then="die")

    assert one.report()["outcome"] == "lost"
    wait_until(lambda: not one.left(), 20, "nothing of it lives")
    assert pull.hand_out(then="end").report()["outcome"] == "done"


def test_a_killed_factory_leaves_nothing_that_its_next_start_does_not_end(pull: Pull, wait_until: Wait) -> None:
    one = pull.start().hand_out(starts=["program", "daemon"]).begun()
    nursery, child = pull.children()[:2]
    pull.running.kill()
    pull.running.wait(10)
    wait_until(lambda: not lives(nursery) and not lives(child), 10, "they die with it")
    pull.start()

    assert one.report()["outcome"] == "lost"
    wait_until(lambda: not one.left(), 20, "nothing of it lives")


def test_without_its_nursery_the_process_ends_to_be_started_anew(pull: Pull, wait_until: Wait) -> None:
    """75: a supervisor starts it again, and nobody works unwatched."""
    one = pull.start().hand_out().begun()
    nursery, child = pull.children()[:2]
    nursery.kill()

    assert pull.running.wait(20) == 75
    assert not lives(child)
    pull.start()
    assert one.report()["outcome"] == "lost"


@pytest.mark.parametrize("by", ["supervisor", "Ctrl-C"])
def test_told_to_end_it_takes_nothing_more_and_finishes_what_it_has(
    pull: Pull, hq: HandingHq, tmp_path: Path, by: str, wait_until: Wait
) -> None:
    """F-23; Ctrl-C reaches the whole group, and ends no attempt either."""
    gate = tmp_path / "gate"
    one = pull.start().hand_out(then="wait", gate=str(gate)).begun()
    if by == "Ctrl-C":
        os.killpg(pull.running.pid, signal.SIGINT)
    else:
        pull.running.send_signal(signal.SIGTERM)
    wait_until(lambda: hq.slots() == 0, 20, "HQ hears of it")
    waits = pull.hand_out(then="end")
    gate.touch()

    assert one.report()["outcome"] == "done"
    assert pull.running.wait(20) == 0
    assert not waits.told.exists()
    assert pull.spool.workers() == []
    assert hq.said("registrations")[-1]["registration_status"] == "offline", "it took its leave"


def test_told_twice_it_ends_at_once_and_its_next_start_reports_what_it_broke_off(
    pull: Pull, hq: HandingHq, wait_until: Wait
) -> None:
    one = pull.start().hand_out(starts=["program", "daemon"], then="ignore").begun()
    pull.running.send_signal(signal.SIGTERM)
    wait_until(lambda: hq.slots() == 0, 20, "it has heard the first")
    pull.running.send_signal(signal.SIGTERM)

    assert pull.running.wait(20) == 0
    pull.start()
    assert one.report()["outcome"] == "lost"
    wait_until(lambda: not one.left(), 20, "nothing of it lives")


def test_told_twice_it_leaves_nothing_behind(pull: Pull, hq: HandingHq, wait_until: Wait) -> None:
    """Who ends a factory for good must not find its missions still at work."""
    one = pull.start().hand_out(starts=["program", "daemon"]).begun()
    pull.running.send_signal(signal.SIGTERM)
    wait_until(lambda: hq.slots() == 0, 20, "it has heard the first")
    pull.running.send_signal(signal.SIGTERM)

    assert pull.running.wait(20) == 0
    assert one.left() == []


def test_a_credential_that_ended_is_said_in_the_log_and_work_goes_on_once_it_is_good_again(
    pull: Pull, hq: HandingHq, wait_until: Wait
) -> None:
    hq.refused[("claim", "missions")] = NO_CREDENTIAL
    pull.start()
    wait_until(lambda: REJOIN in pull.log(), 20, "it says what to do")
    hq.refused.clear()

    assert pull.hand_out(then="end").report()["outcome"] == "done"


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"FACTORY_ROLE": "STANDALONE_NODE"}, "takes no missions"),
        ({"UA_HQ_BASE_URL": ""}, "UA_HQ_BASE_URL is missing"),
        ({"UA_OPS_TOKEN": ""}, "UA_FACTORY_CREDENTIAL is missing"),
    ],
    ids=["no role", "no address", "no credential"],
)
def test_who_cannot_take_missions_says_why_and_what_to_do(pull: Pull, variables: dict[str, str], words: str) -> None:
    """78: no supervisor tries that again."""
    assert pull.spawn(**variables).wait(20) == 78
    assert words in pull.log()


def test_a_spool_that_cannot_be_used_is_said_in_one_line(pull: Pull, tmp_path: Path) -> None:
    (tmp_path / "spool.db").write_text("this is no database, and long enough to be looked at as one" * 20)

    assert pull.spawn().wait(20) == os.EX_IOERR
    assert "UA_VP_DB_PATH" in pull.log()


def test_its_beat_says_how_missions_reach_this_factory(pull: Pull, hq: HandingHq, wait_until: Wait) -> None:
    pull.start()
    beat = wait_until(lambda: hq.said("registrations"), 20)[0]

    assert (beat["slots"], beat["transport"]) == (1, "https")
    assert "transport:http" in beat["capabilities"]
    assert "delegation_redis" not in beat["capabilities"]
