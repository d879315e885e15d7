"""One factory's queue takes HQ long to look into: it is looked into less often, and nobody else waits for it."""

from collections.abc import Collection

from ledger_at_work import POLICY, LedgerAtWork, RememberingBroker

from corporation.engine.patience import SWEEP_SECONDS
from corporation.engine.rescuer import Rescuer
from corporation.missions.queues import TakenBack, Whereabouts

LEASE = 180.0
DUE = "UPDATE corporation.attempts SET lease_expires_at = now() + interval '60 seconds' WHERE state = 'queued'"
SLOW, OTHER = "factory.desk-7", "factory.desk-8"


class CostlyBroker:
    """The broker of a ledger at work, on a clock on which each look into a queue takes its time."""

    def __init__(self, broker: RememberingBroker) -> None:
        self.broker = broker
        self.now = 1000.0
        self.costs: dict[str, float] = {}
        self.looks: list[str] = []

    def look_into(self, queue: str) -> Whereabouts:
        """As the broker, and it takes time."""
        self._pass_time(queue)
        return self.broker.look_into(queue)

    def withdraw(self, queue: str, attempt_ids: Collection[str]) -> TakenBack:
        """As the broker, and it takes time."""
        self._pass_time(queue)
        return self.broker.withdraw(queue, attempt_ids)

    def incarnation(self) -> str:
        """As the broker."""
        return self.broker.incarnation()

    def _pass_time(self, queue: str) -> None:
        self.looks.append(queue)
        self.now += self.costs.get(queue, 0.0)


class Watch:
    """A rescuer that sweeps every two seconds, at work on two factories of which each has messages in its queue."""

    def __init__(self, ledger: LedgerAtWork) -> None:
        self.ledger = ledger
        self.costly = CostlyBroker(ledger.broker)
        self.rescuer = Rescuer(ledger.engine, self.costly, POLICY, LEASE, lambda: 0.5, lambda: self.costly.now)
        ledger.hand_out("j-1", "j-2")
        ledger.beat("desk-8")
        ledger.publish("k-1", context={"target_factory_id": "desk-8"})
        ledger.dispatch()
        ledger.send()

    def sweep(self, times: int = 1) -> list[float]:
        """How long each sweep took; before each, nothing in the queues was renewed for two minutes."""
        took: list[float] = []
        for _ in range(times):
            self.ledger.sql(DUE)
            began = self.costly.now
            self.rescuer.tick()
            took.append(self.costly.now - began)
            self.costly.now += 2.0
        return took

    def lease_left(self, job_id: str) -> float:
        """Seconds until the lease of the mission's attempt ends."""
        return self.ledger.attempts(job_id)[-1].lease_left.total_seconds()


def test_a_slow_queue_is_looked_into_less_and_less_and_the_other_with_every_sweep(ledger: LedgerAtWork) -> None:
    watch = Watch(ledger)
    watch.costly.costs[SLOW] = 3.0
    # The orphans are swept once a minute as well.
    took = watch.sweep(30)

    assert 3 <= watch.costly.looks.count(SLOW) <= 7
    assert watch.costly.looks.count(OTHER) >= 30
    assert sum(took) / 30 < 1.0
    assert watch.lease_left("k-1") > 170


def test_what_lies_in_a_slow_queue_keeps_its_lease(ledger: LedgerAtWork) -> None:
    watch = Watch(ledger)
    watch.costly.costs[SLOW] = 3.0
    watch.sweep(10)
    renewed = False
    for _ in range(25):
        watch.sweep()
        renewed = renewed or watch.lease_left("j-1") > 170

    assert renewed, "within fifty seconds, of a lease of a hundred and eighty"
    assert ledger.state("j-1") == "queued"


def test_people_are_told_once_that_it_is_slow_and_not_that_it_is_too_full(ledger: LedgerAtWork) -> None:
    watch = Watch(ledger)
    watch.costly.costs[SLOW] = 3.0
    watch.sweep(2)
    assert ledger.sql("SELECT kind FROM corporation.notifications") == [], "once may be chance"
    watch.sweep(8)

    [[kind, title]] = ledger.sql("SELECT kind, title FROM corporation.notifications")
    assert (kind, title) == ("redis_queue_slow", "factory.desk-7 takes long to look into")


def test_a_queue_that_is_quick_again_is_looked_into_with_every_sweep_again(ledger: LedgerAtWork) -> None:
    watch = Watch(ledger)
    watch.costly.costs[SLOW] = 3.0
    watch.sweep(4)
    watch.costly.costs.clear()
    watch.sweep(6)
    watch.costly.looks.clear()
    watch.sweep(5)

    assert watch.costly.looks.count(SLOW) >= 5


def test_a_message_is_not_sent_again_because_its_queue_was_passed_by(ledger: LedgerAtWork) -> None:
    watch = Watch(ledger)
    watch.costly.costs[SLOW] = 3.0
    watch.sweep()
    ledger.broker.lose(SLOW)
    watch.sweep()
    assert ledger.attempts("j-1")[0].sends == 1
    watch.sweep(10)

    assert ledger.attempts("j-1")[0].sends == 2


def test_what_is_to_be_taken_back_from_a_slow_queue_waits_until_it_has_rested_and_holds_up_no_other(
    ledger: LedgerAtWork,
) -> None:
    watch = Watch(ledger)
    watch.costly.costs[SLOW] = 3.0
    watch.sweep()
    ledger.sql("UPDATE corporation.factories SET draining = true")
    watch.sweep()
    assert (ledger.state("j-1"), ledger.state("k-1")) == ("queued", "waiting")
    watch.sweep(4)

    assert {ledger.state(job) for job in ("j-1", "j-2")} == {"waiting"}


def test_what_is_given_up_does_not_stay_in_a_slow_queue(ledger: LedgerAtWork) -> None:
    watch = Watch(ledger)
    watch.costly.costs[SLOW] = 3.0
    watch.sweep()
    ledger.sql("UPDATE corporation.factories SET last_seen_at = now() - interval '400 seconds', slots = 0")
    ledger.beat("desk-8")
    ledger.lapse(ledger.attempt_of("j-1"), ledger.attempt_of("j-2"))
    watch.rescuer.tick()

    assert (ledger.state("j-1"), ledger.broker.lying_in(SLOW)) == ("waiting", set())


def test_a_sweep_comes_to_an_end_however_many_queues_are_slow_at_once(ledger: LedgerAtWork) -> None:
    watch = Watch(ledger)
    for number in range(20):
        name = f"bench-{number}"
        ledger.beat(name)
        ledger.publish(name, context={"target_factory_id": name})
        watch.costly.costs[f"factory.{name}"] = 4.0
    ledger.dispatch()
    ledger.send()
    [took] = watch.sweep()
    later = watch.sweep(20)

    assert took <= SWEEP_SECONDS + 4.0
    assert max(later) <= SWEEP_SECONDS + 4.0
    assert {f"factory.bench-{number}" for number in range(20)} <= set(watch.costly.looks), "each has had its turn"
