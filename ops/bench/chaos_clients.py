"""A client of the REST API as a process of its own: it publishes its missions until each was accepted, and notes it.

`python -m ops.bench.chaos_clients ORDERS.json NUMBER`, started again after it was killed, goes on where its log ends.
A line of the log is written before anything else is done, so what stands there was really answered.
"""

import json
import os
import random
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any, Final

from ops.bench.chaos_marks import leave
from ops.bench.chaos_plan import Plan, Wish

BREATH_SECONDS: Final = 0.05
LONGEST_WAIT_SECONDS: Final = 1.0
"""However long the API asks to be left alone: the run is short."""
ANSWER_SECONDS: Final = 10.0
REFUSED: Final = "ended before"
"""What is noted of a mission that could not be cancelled any more."""
MOST_AT_ONCE: Final = 5


@dataclass(frozen=True)
class Accepted:
    """`what` was answered of `asked` under this key.

    `published`: 2xx, and it is the mission `job_id`; `imported`: its entry of the stream was acknowledged; `cancelled`:
    the request to cancel it was taken, and `job_id` is the state that was answered.
    """

    what: str
    asked: str
    key: str
    job_id: str


def read_log(path: Path) -> list[Accepted]:
    """All that a client noted, in order."""
    lines = path.read_text().splitlines() if path.exists() else []
    return [Accepted(*json.loads(line)) for line in lines]


def log_of(folder: Path, number: int) -> Path:
    """Where the client of this number notes what was accepted."""
    return folder / f"accepted-{number}.log"


def share_of(wishes: Sequence[Wish], number: int, clients: int) -> list[tuple[Wish, str]]:
    """The missions of one client, each with the job_id by which it asks; a twin is asked for by the next client.

    The client whose number is `clients` asks on the mission stream, the others over REST; twins always over REST.
    """
    if number == clients:
        return [(wish, wish.job_id) for wish in wishes if wish.by_stream]
    mine = [(wish, wish.job_id) for wish in wishes if not wish.by_stream and wish.serial % clients == number]
    twins = [(wish, wish.twin) for wish in wishes if wish.twin and (wish.serial + 1) % clients == number]
    return sorted([*mine, *twins], key=lambda one: one[0].serial)


@dataclass
class Client:
    """Publishes `orders`, as far as the file of the allowance lets it, and cancels what is to be cancelled."""

    folder: Path
    port: int
    token: str
    number: int
    orders: Sequence[tuple[Wish, str]]
    _connection: HTTPConnection | None = None
    _cancels: list[tuple[float, Wish]] = field(default_factory=list[tuple[float, Wish]])

    def run(self) -> None:
        """Everything was accepted when this returns."""
        seen = read_log(self._log)
        published = {one.asked for one in seen if one.what != "cancelled"}
        cancelled = {one.asked for one in seen if one.what == "cancelled"}
        for wish, job_id in self.orders:
            if wish.job_id == job_id and job_id in published - cancelled:
                self._remember_to_cancel(wish)
        left = [(wish, job_id) for wish, job_id in self.orders if job_id not in published]
        chance = random.Random(f"client-{self.number}-{len(left)}")
        while left or self._cancels:
            batch = self._allowed(left[: chance.randint(1, MOST_AT_ONCE)])
            self._cancel_what_is_due()
            if batch:
                done = self._publish(batch)
                left = [one for one in left if one[1] not in done]
            else:
                time.sleep(BREATH_SECONDS)

    @property
    def _log(self) -> Path:
        return log_of(self.folder, self.number)

    def _allowed(self, batch: Sequence[tuple[Wish, str]]) -> Sequence[tuple[Wish, str]]:
        try:
            allowance = int((self.folder / "allowance").read_text() or 0)
        except (FileNotFoundError, ValueError):
            return []
        return [one for one in batch if one[0].serial < allowance]

    def _publish(self, batch: Sequence[tuple[Wish, str]]) -> set[str]:
        """The job_ids that were accepted, each of which stands in the log by then."""
        marks = str(self.folder / "marks")
        body = {"missions": [wish.order(marks, job_id) for wish, job_id in batch]}
        answer = self._ask("/api/v1/delegation/publish", body)
        entries: list[dict[str, Any]] = answer.get("missions", []) if answer else []
        accepted = {one["index"]: one["job_id"] for one in entries if one["status"] in (200, 202)}
        for index, job_id in accepted.items():
            wish, asked = batch[index]
            self._note(Accepted("published", asked, wish.key, job_id))
            if wish.job_id == asked:
                self._remember_to_cancel(wish)
        return {batch[index][1] for index in accepted}

    def _remember_to_cancel(self, wish: Wish) -> None:
        if wish.cancel_after_seconds is not None:
            self._cancels.append((time.monotonic() + wish.cancel_after_seconds, wish))

    def _cancel_what_is_due(self) -> None:
        for one in [one for one in self._cancels if one[0] <= time.monotonic()]:
            wish = one[1]
            answer = self._ask(f"/api/v1/missions/{wish.job_id}/cancel", {"reason": "the chaos wants it"}, final=(409,))
            if answer is not None:
                self._cancels.remove(one)
                self._note(Accepted("cancelled", wish.job_id, wish.key, str(answer.get("state", REFUSED))))

    def _note(self, accepted: Accepted) -> None:
        fields = [accepted.what, accepted.asked, accepted.key, accepted.job_id]
        leave(str(self._log), json.dumps(fields) + "\n")

    def _ask(self, path: str, body: dict[str, Any], final: Sequence[int] = ()) -> dict[str, Any] | None:
        """The answer, or None when there was none or it said to come again; then a moment has passed."""
        try:
            connection = self._connection or HTTPConnection("127.0.0.1", self.port, timeout=ANSWER_SECONDS)
            self._connection = connection
            headers = {"x-ua-ops-token": self.token, "Content-Type": "application/json"}
            connection.request("POST", path, json.dumps(body), headers)
            answer = connection.getresponse()
            said = answer.read()
            if answer.status < 300 or answer.status in final:
                return json.loads(said)
            print(f"{path} {answer.status} {said[:200]!r}", flush=True)
            wait = float(answer.headers.get("Retry-After", "0.1"))
        except (OSError, HTTPException, ValueError) as error:
            print(f"{path} {error!r}", flush=True)
            wait = 0.1
            if self._connection is not None:
                self._connection.close()
            self._connection = None
        time.sleep(min(wait, LONGEST_WAIT_SECONDS))
        return None


def can_cancel(port: int, token: str) -> bool:
    """Whether the API that answers at `port` knows the route by which a mission is cancelled."""
    connection = HTTPConnection("127.0.0.1", port, timeout=ANSWER_SECONDS)
    headers = {"x-ua-ops-token": token, "Content-Type": "application/json"}
    connection.request("POST", "/api/v1/missions/nobody/cancel", "{}", headers)
    answer = connection.getresponse()
    said = answer.read()
    connection.close()
    return answer.status != 405 and b"unknown_mission" in said


def write_orders(folder: Path, plan: Plan, port: int, token: str, redis_url: str) -> None:
    """What every client of this run is told, for `main` to read."""
    fields = {name: value for name, value in vars(plan).items() if name != "only"}
    text = json.dumps({"plan": fields, "port": port, "token": token, "redis_url": redis_url})
    (folder / "clients.json").write_text(text)


def main() -> int:
    """Publish the share of the client whose number is the second argument."""
    place, number = Path(sys.argv[1]), int(sys.argv[2])
    orders = json.loads(place.read_text())
    plan = Plan(**orders["plan"])
    share = share_of(plan.wishes(), number, plan.clients)
    Client(place.parent, orders["port"], orders["token"], number, share).run()
    return 0


if __name__ == "__main__":
    os.umask(0o077)
    raise SystemExit(main())
