"""HQ's flag follows every order, whatever its way in, and every order comes to an end (F-20, S-33)."""

import threading
from collections.abc import Callable
from typing import Any

import pytest
from builders import beat, submission
from ledger_at_work import LedgerAtWork
from sqlalchemy.exc import IntegrityError

from corporation import clock
from corporation.db import transaction
from corporation.factories.control import Word
from corporation.factories.enrolment import Newcomer, enter
from corporation.factories.registry import remove
from corporation.factories.staleness import Thresholds
from corporation.factories.store import hear
from corporation.missions.claim import Claim, claim
from corporation.missions.control import control
from corporation.missions.orders import obey, obey_early, order_in, tell
from corporation.missions.replay import Names, replay
from corporation.missions.store.broadcasting import end_broadcasts, spread_one
from corporation.missions.submit import Submission, submit

FOREIGN: dict[str, Any] = {"labels": ["vp_general", "transport:http"], "queues": []}
OURS: dict[str, Any] = {"queues": ["factory.desk-7", "desk-7.control"]}
WORDS = "SELECT type, by FROM corporation.factory_events WHERE type IN ('paused', 'draining', 'resumed') ORDER BY id"


def order(
    job_id: str, action: str = "pause", target: str = "desk-7", source: str = "rest", **context: Any
) -> Submission:
    said = {"mission_kind": f"system:{action}_factory", "target_factory_id": target} | context
    return submission(job_id, source, context=said)


def listens(ledger: LedgerAtWork, factory_id: str = "desk-7", **changes: Any) -> bool:
    """One beat as HQ takes it; whether its answer says that the factory rests."""
    with transaction(ledger.engine) as connection:
        obey_early(connection, factory_id)
        heard = hear(connection, beat(factory_id, **changes))
        tell(connection, factory_id, clock.new_id)
    return heard.paused


def factory(ledger: LedgerAtWork, factory_id: str = "desk-7") -> Any:
    [row] = ledger.sql("SELECT * FROM corporation.factories WHERE factory_id = :id", id=factory_id)
    return row


def words(ledger: LedgerAtWork) -> list[tuple[str, str]]:
    """What was said of the factories, and by whom."""
    return [(row.type, row.by) for row in ledger.sql(WORDS)]


@pytest.mark.parametrize("source", ["redis_bridge", "rest", "telegram", "replay", "csi", "agent", "dashboard"])
def test_an_order_sets_and_clears_the_flag_whoever_gives_it(ledger: LedgerAtWork, source: str) -> None:
    ledger.beat()
    ledger.submit(order("p", source=source, note="moving"))
    flagged = factory(ledger)
    ledger.submit(order("r", "resume", source=source))

    assert (flagged.paused, flagged.paused_by, flagged.pause_note) == (True, source, "moving")
    assert not factory(ledger).paused
    assert words(ledger) == [("paused", source), ("resumed", source)]
    assert not listens(ledger)


def test_a_pause_in_the_mode_drain_is_a_drain(ledger: LedgerAtWork) -> None:
    ledger.beat()
    ledger.submit(order("p", mode="drain"))

    assert (factory(ledger).paused, factory(ledger).draining) == (False, True)


def test_the_principal_is_named_where_one_is_known(ledger: LedgerAtWork) -> None:
    ledger.beat()
    given = order("p")
    ledger.submit(Submission(given.envelope, given.resolved, given.source, by="ana"))

    assert words(ledger) == [("paused", "ana")]


@pytest.mark.parametrize(
    ("note", "kept"),
    [("a\nb\x1b[2J", "a b [2J"), (" x ", "x"), ("n" * 2000, "n" * 1000), ("", None), (7, None), ("\x00\ud800", None)],
)
def test_the_note_is_one_line_that_can_be_shown(ledger: LedgerAtWork, note: Any, kept: str | None) -> None:
    ledger.beat()
    with transaction(ledger.engine) as connection:
        obey(connection, [order_in("system:pause_factory", {"target_factory_id": "desk-7", "note": note}, "rest")])

    assert (factory(ledger).paused, factory(ledger).pause_note) == (True, kept)


def test_an_order_that_is_known_says_nothing_again(ledger: LedgerAtWork) -> None:
    ledger.beat()
    ledger.submit(order("p"))
    ledger.submit(order("r", "resume"))
    twin = order("p-2").envelope.model_copy(update={"idempotency_key": "k-p"})
    ledger.submit(order("p"), Submission(twin, order("p").resolved, "redis_bridge"))

    assert not factory(ledger).paused
    assert len(words(ledger)) == 2


def test_of_several_in_one_batch_the_last_counts(ledger: LedgerAtWork) -> None:
    ledger.beat()
    ledger.submit(order("p"), order("r", "resume"), order("p-2", note="after all"))

    assert (factory(ledger).paused, factory(ledger).pause_note) == (True, "after all")


def test_an_order_for_one_factory_says_nothing_of_another(ledger: LedgerAtWork) -> None:
    """S-24."""
    ledger.beat()
    ledger.beat("desk-8")
    ledger.submit(order("p"))

    assert not factory(ledger, "desk-8").paused
    assert not listens(ledger, "desk-8")
    assert ledger.state("p") == "waiting"


def test_flag_and_order_are_stored_together_or_not_at_all(ledger: LedgerAtWork) -> None:
    ledger.beat()
    with ledger.engine.connect() as connection:
        submit(connection, [order("p")], 0)
        connection.rollback()

    assert not factory(ledger).paused
    assert words(ledger) == []


def test_a_replayed_order_is_an_order(ledger: LedgerAtWork) -> None:
    ledger.beat(**FOREIGN)
    ledger.submit(order("p"))
    listens(ledger, **FOREIGN)
    ledger.submit(order("r", "resume"))
    with transaction(ledger.engine) as connection:
        replay(connection, "p", Names(), 0)

    assert words(ledger)[-1] == ("paused", "replay")
    assert factory(ledger).paused


# --- A factory that HQ does not know yet ---


def test_a_factory_that_was_ordered_before_it_came_is_flagged_by_the_newest_order(ledger: LedgerAtWork) -> None:
    ledger.submit(order("r", "resume"))
    ledger.submit(order("p", source="redis_bridge"))
    ledger.explain()

    assert ledger.mission("p").state_reason == "target_unknown"
    assert ledger.sql("SELECT 1 FROM corporation.factories") == []
    assert listens(ledger, **OURS), "the answer to its first beat says so"
    assert words(ledger) == [("paused", "redis_bridge")]
    assert factory(ledger).source == "api_registration"
    assert listens(ledger, **OURS)
    assert len(words(ledger)) == 1


def test_who_joined_after_the_order_is_flagged_with_its_first_beat(ledger: LedgerAtWork) -> None:
    ledger.submit(order("p"))
    with transaction(ledger.engine) as connection:
        enter(connection, Newcomer("desk-7"), "ana", None)

    assert listens(ledger)


def test_an_older_order_never_overrides_a_newer_word(ledger: LedgerAtWork) -> None:
    ledger.submit(order("p"))
    with transaction(ledger.engine) as connection:
        control(connection, "desk-7", Word("resume", "ana"), "0a1b2c3d4e5f", Thresholds(), 0, wait=True)

    assert not listens(ledger)
    assert words(ledger) == [("resumed", "ana")]


def test_an_order_that_was_cancelled_before_its_factory_came_says_nothing(ledger: LedgerAtWork) -> None:
    ledger.submit(order("p"))
    ledger.cancel("p")

    assert not listens(ledger)


def test_who_was_removed_and_comes_again_hears_what_still_waits(ledger: LedgerAtWork) -> None:
    ledger.beat(**OURS)
    ledger.submit(order("p"))
    with transaction(ledger.engine) as connection:
        remove(connection, "desk-7", "ana")

    assert listens(ledger, **OURS)


def test_an_order_that_is_stored_during_the_first_beat_is_not_lost(
    ledger: LedgerAtWork, wait_until: Callable[..., Any]
) -> None:
    """Neither sees the other's row; so the second waits for the first."""
    with transaction(ledger.engine) as storing:
        submit(storing, [order("p")], 0)
        beating = threading.Thread(target=listens, args=(ledger,))
        beating.start()
        blocked = "SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
        wait_until(lambda: ledger.sql(blocked), what="the beat waits")
    beating.join(10)

    assert factory(ledger).paused


def test_a_first_beat_during_the_order_is_not_lost_either(ledger: LedgerAtWork, wait_until: Callable[..., Any]) -> None:
    with transaction(ledger.engine) as beating:
        obey_early(beating, "desk-7")
        storing = threading.Thread(target=ledger.submit, args=(order("p"),))
        storing.start()
        blocked = "SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
        wait_until(lambda: ledger.sql(blocked), what="the order waits")
        hear(beating, beat())
    storing.join(10)

    assert factory(ledger).paused


def test_a_newcomer_that_has_another_ones_name_in_its_queue_is_refused(ledger: LedgerAtWork) -> None:
    ledger.beat("desk.7")
    ledger.submit(order("p", target="desk/7"))

    with pytest.raises(IntegrityError):
        listens(ledger, "desk/7")


# --- Orders to all ---


def spread(ledger: LedgerAtWork) -> None:
    with transaction(ledger.engine) as connection:
        spread_one(connection, Thresholds())


def test_a_broadcast_flags_each_factory_that_has_a_child(ledger: LedgerAtWork) -> None:
    """S-25, F-22."""
    for name in ("desk-7", "desk-8"):
        ledger.beat(name)
    ledger.beat("hq", factory_role="HEADQUARTERS")
    ledger.submit(order("p", target="", source="redis_bridge"))
    spread(ledger)

    assert [factory(ledger, name).paused for name in ("desk-7", "desk-8", "hq")] == [True, True, False]
    assert words(ledger) == [("paused", "redis_bridge")] * 2


def test_a_broadcast_says_nothing_of_whom_somebody_has_said_something_since(ledger: LedgerAtWork) -> None:
    for name in ("desk-7", "desk-8"):
        ledger.beat(name)
    ledger.submit(order("p", target=""))
    ledger.submit(order("r", "resume"))
    spread(ledger)

    assert [factory(ledger, name).paused for name in ("desk-7", "desk-8")] == [False, True]


def test_what_an_operator_orders_holds_at_once_and_for_whoever_comes_before_it_is_spread(ledger: LedgerAtWork) -> None:
    """H-23."""
    ledger.beat("desk-7")
    with transaction(ledger.engine) as connection:
        control(connection, None, Word("pause", "ana", "storm", 600), "0a1b2c3d4e5f", Thresholds(), 0)
    ledger.beat("desk-8")
    flagged = factory(ledger).paused
    spread(ledger)

    assert flagged
    assert words(ledger) == [("paused", "ana"), ("paused", "ops")]
    late = factory(ledger, "desk-8")
    assert (late.paused, late.pause_note) == (True, "storm")
    assert late.paused_until is not None, "it ends by itself there too"


def test_a_broadcast_ends_though_one_of_its_factories_is_never_sent_an_order(ledger: LedgerAtWork) -> None:
    """S-25, S-33."""
    ledger.beat(**OURS)
    ledger.beat("ext-1", **FOREIGN)
    ledger.submit(order("p", target=""))
    spread(ledger)
    ledger.dispatch()
    ledger.report(ledger.attempt_of("p.desk-7"))
    ledger.collect()
    listens(ledger, "ext-1", **FOREIGN)
    with transaction(ledger.engine) as connection:
        end_broadcasts(connection)

    assert ledger.state("p") == "succeeded"


# --- The end of an order that nobody there is sent ---


@pytest.mark.parametrize(
    "changes", [FOREIGN, {"queues": ["factory.desk-7"]}, FOREIGN | OURS, {"queues": [], "slots": 0}]
)
def test_the_answer_to_a_beat_ends_an_order(ledger: LedgerAtWork, changes: dict[str, Any]) -> None:
    """S-35, S-33: once, with everything that a worker of it would say."""
    ledger.beat(**changes)
    ledger.submit(order("p", note="moving\nhouse"))
    told = listens(ledger, **changes)

    assert (told, ledger.state("p")) == (True, "succeeded")
    assert ledger.mission("p").result == {
        "action": "pause", "note": "moving\nhouse", "result_ref": "", "mission_id": "p", "factory_id": "desk-7",
        "mission_kind": "system:pause_factory", "attempts": 1,
    }  # fmt: skip
    assert ledger.events("p") == ["published", "queued", "claimed", "started", "succeeded"]
    assert len(ledger.sql("SELECT 1 FROM corporation.stream_outbox WHERE mission_id IS NOT NULL")) == 1
    listens(ledger, **changes)
    assert ledger.events("p")[-1] == "succeeded"
    assert len(ledger.attempts("p")) == 1


def test_pause_and_resume_between_two_beats_both_end_and_the_flag_is_the_last_ones(ledger: LedgerAtWork) -> None:
    ledger.beat(**FOREIGN)
    ledger.submit(order("p", mode="drain"))
    ledger.submit(order("r", "resume"))

    assert not listens(ledger, **FOREIGN)
    assert (ledger.state("p"), ledger.state("r")) == ("succeeded", "succeeded")
    assert ledger.mission("p").result["mode"] == "drain"
    assert ledger.mission("r").result["action"] == "resume"


@pytest.mark.parametrize("changes", [OURS, FOREIGN | {"registration_status": "offline"}])
def test_an_order_waits_for_a_control_worker_and_no_goodbye_ends_it(
    ledger: LedgerAtWork, changes: dict[str, Any]
) -> None:
    ledger.beat(**changes)
    ledger.submit(order("p"))
    listens(ledger, **changes)

    assert ledger.state("p") == "waiting"


def test_a_factory_in_quarantine_is_told_nothing(ledger: LedgerAtWork) -> None:
    ledger.beat(**FOREIGN)
    ledger.submit(order("p"))
    ledger.sql("INSERT INTO corporation.factory_access (factory_id, quarantined_at) VALUES ('desk-7', now())")
    listens(ledger, **FOREIGN)

    assert ledger.state("p") == "waiting"


def test_what_a_worker_of_the_factory_has_claimed_is_left_to_it(ledger: LedgerAtWork) -> None:
    ledger.beat(**FOREIGN)
    ledger.submit(order("p"))
    with transaction(ledger.engine) as connection:
        kinds = frozenset({"system:pause_factory"})
        claimed = claim(connection, Claim("desk-7", 1, kinds), 180, clock.new_id).attempts
    listens(ledger, **FOREIGN)

    assert ([one.job_id for one in claimed], ledger.state("p")) == (["p"], "claimed")


def test_an_order_whose_time_is_over_is_not_carried_out(ledger: LedgerAtWork) -> None:
    ledger.beat(**FOREIGN)
    ledger.submit(order("p"), ttl_seconds=1)
    ledger.sql("UPDATE corporation.missions SET deadline_at = now() - interval '1 second'")
    listens(ledger, **FOREIGN)

    assert ledger.state("p") == "waiting"
