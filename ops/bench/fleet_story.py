"""The story of a small fleet, told with the commands that people type, and judged by the ledger.

HQ starts; two factories join with a code each; kinds and targets decide who works; one is drained in the middle of many
missions and resumed; the other is killed with all its processes; every mission ends once. Exit status 1 when a promise
is broken. With `--namespaces` (root) each factory has a network of its own and reaches HQ over HTTP alone.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psutil

from ops.bench.cluster import ROOT
from ops.bench.fleet_places import Place, places

CORPORATION = str(ROOT / ".venv" / "bin" / "corporation")
NAMES = ("alpha", "beta")
LEASE_SECONDS = 30
SLACK_SECONDS = 5
ONLINE_SECONDS = 90
ONLY_BETA = "ops.bench.noop,ops.bench.chaos_kind"
"""beta knows a kind more than alpha."""
QUICK = {
    "UA_ATTEMPT_LEASE_SECONDS": str(LEASE_SECONDS),
    "UA_HEARTBEAT_INTERVAL_SECONDS": "10",
    "UA_MISSION_RETRY_BASE_SECONDS": "0.5",
}


@dataclass
class Story:
    """One telling; `broken` collects the promises that did not hold, `figures` what was measured."""

    folder: Path
    missions: int
    environ: dict[str, str]
    broken: list[str] = field(default_factory=list[str])
    figures: dict[str, float] = field(default_factory=dict[str, float])
    hq: httpx.Client = field(default_factory=httpx.Client)

    def say(self, text: str) -> None:
        sys.stdout.write(f"{text}\n")
        sys.stdout.flush()

    def expect(self, holds: bool, promise: str) -> None:
        self.say(f"  {'ok' if holds else 'BROKEN'}  {promise}")
        if not holds:
            self.broken.append(promise)

    def command(self, *arguments: str, place: Place | None = None, **more: str) -> str:
        """What `corporation ARGUMENTS…` prints, run at HQ or at a factory's place; raises when it fails."""
        argv = [*(place.prefix if place else ()), CORPORATION, *arguments]
        done = subprocess.run(
            argv, env={**self.environ, **more}, capture_output=True, text=True, timeout=180, check=False
        )
        if done.returncode:
            raise RuntimeError(f"{' '.join(arguments[:3])} ended with {done.returncode}: {done.stderr or done.stdout}")
        return done.stdout

    def wait(self, what: str, holds: Callable[[], Any], seconds: float = 60) -> float:
        """Until `holds`; after how many seconds that was. A wait that ends without is a broken promise."""
        began = time.monotonic()
        while not holds():
            if time.monotonic() - began > seconds:
                self.expect(False, f"{what} within {seconds:g} s")
                break
            time.sleep(0.1)
        return time.monotonic() - began

    def publish(self, name: str, count: int, **context: Any) -> list[str]:
        """`count` missions named after `name` are accepted."""
        mark = {"mission_kind": "noop", "mark": str(self.folder / "marks"), **context}
        jobs = [f"{name}-{number}" for number in range(count)]
        orders = [
            {"job_id": job, "idempotency_key": job, "payload": {"task": "t", "context": mark}, "max_retries": 3}
            for job in jobs
        ]
        self.hq.post("/api/v1/delegation/publish", json={"missions": orders}).raise_for_status()
        return jobs

    def missions_of(self, jobs: Sequence[str]) -> list[dict[str, Any]]:
        """Each mission as HQ tells it."""
        return [self.hq.get(f"/api/v1/missions/{job}").raise_for_status().json() for job in jobs]

    def open(self) -> int:
        """How many missions have not ended."""
        states = "waiting,queued,claimed,running"
        return len(self.hq.get("/api/v1/missions", params={"state": states, "limit": 200}).json()["missions"])

    def workload(self) -> dict[str, dict[str, Any]]:
        """What each factory does now."""
        rows = self.hq.get("/api/v1/ops/delegation/workload").raise_for_status().json()["factories"]
        return {row["factory_id"]: row for row in rows}

    def effects(self) -> Counter[tuple[str, str]]:
        """How often the work of each attempt (mission, number) was done."""
        marks = self.folder / "marks"
        lines = marks.read_text().splitlines() if marks.exists() else []
        return Counter((job, number) for job, number in (line.rsplit(" ", 1) for line in lines))


def tell(story: Story, *, namespaces: bool) -> None:
    """The whole story; what it starts has ended when this returns."""
    state = story.folder / "hq"
    with (story.folder / "hq.log").open("ab") as log:
        hq = subprocess.Popen(
            [CORPORATION, "up", "--role", "hq", "--state", str(state)],
            env=story.environ,
            stdout=log,
            stderr=log,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
    try:
        facts = _ready(story, state)
        story.hq = httpx.Client(
            base_url=facts["hq_base_url"], headers={"Authorization": f"Bearer {facts['ops_token']}"}, timeout=30
        )
        with places(NAMES, story.folder, facts["gateway_port"], namespaces=namespaces) as spots:
            try:
                _live(story, state, spots)
            finally:
                for spot in spots:
                    with suppress(RuntimeError, subprocess.TimeoutExpired):
                        story.command("factory", "down", "--state", str(spot.state), place=spot)
    finally:
        hq.send_signal(signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            hq.wait(30)


def _ready(story: Story, state: Path) -> dict[str, Any]:
    facts: dict[str, Any] = {}

    def up() -> bool:
        nonlocal facts
        with suppress(OSError, ValueError, httpx.HTTPError):
            facts = json.loads((state / "env.json").read_text())
            return httpx.get(f"{facts['hq_base_url']}/api/v1/health", timeout=2).status_code == 200
        return False

    story.say(f"HQ is up after {story.wait('HQ is up', up):.1f} s")
    return facts


def _live(story: Story, state: Path, spots: Sequence[Place]) -> None:
    alpha, beta = spots
    for spot in spots:
        modules = "ops.bench.noop" if spot is alpha else ONLY_BETA
        _join(story, state, spot, UA_HANDLER_MODULES=modules, UA_FACTORY_SLOTS="2")
    _kinds_and_targets(story)
    _drain(story, state, alpha)
    _kill(story, state, beta)
    _count(story)


def _join(story: Story, state: Path, spot: Place, **more: str) -> None:
    """The factory is online; how long that took from the code on."""
    answer = json.loads(story.command("join-code", "--factory-id", spot.name, "--json", "--state", str(state)))
    began = time.monotonic()
    story.command("factory", "join", spot.hq_url, answer["join_code"], "--state", str(spot.state), place=spot)
    story.command("factory", "up", "--detach", "--state", str(spot.state), place=spot, **more)
    story.wait(f"{spot.name} is online", lambda: _status(story, spot.name) == "online", ONLINE_SECONDS)
    seconds = story.figures[f"{spot.name}_online_seconds"] = time.monotonic() - began
    story.expect(seconds < ONLINE_SECONDS, f"{spot.name} is online {seconds:.1f} s after its code was pasted")
    private = [path for path in spot.state.rglob("*") if path.is_file() and path.stat().st_mode & 0o077]
    secret = [path for path in private if "fc_" in path.read_text(errors="replace")]
    story.expect(not secret, "its credential is readable to its owner alone")


def _status(story: Story, name: str) -> str | None:
    rows = story.hq.get("/api/v1/factory/registrations").json()["registrations"]
    return next((row["registration_status"] for row in rows if row["factory_id"] == name), None)


def _kinds_and_targets(story: Story) -> None:
    only_beta = story.publish("able", 10, mission_kind="chaos", marks=str(story.folder / "chaos"), answers=["done"])
    aimed = {name: story.publish(f"for-{name}", 10, target_factory_id=name) for name in NAMES}
    story.wait("kinds and targets are done", lambda: not story.open())
    where = {mission["factory_id"] for mission in story.missions_of(only_beta)}
    story.expect(where == {"beta"}, "a kind that one factory has goes to that one")
    for name, jobs in aimed.items():
        story.expect(
            {mission["factory_id"] for mission in story.missions_of(jobs)} == {name}, f"what names {name} goes there"
        )


def _drain(story: Story, state: Path, spot: Place) -> None:
    before = len(story.effects())
    jobs = story.publish("many", story.missions, sleep=0.2)
    story.wait("a quarter is done", lambda: len(story.effects()) >= before + story.missions / 4)
    story.command("factories", "drain", spot.name, "--note", "moving the desk", "--state", str(state))

    def empty() -> bool:
        row = story.workload()[spot.name]
        return not row["running"] and not row["queue_depth"]

    seconds = story.figures["drained_seconds"] = story.wait(f"{spot.name} is empty", empty)
    story.say(f"{spot.name} was empty {seconds:.1f} s after it was drained")
    here = Counter(mission["factory_id"] for mission in story.missions_of(jobs) if mission["state"] == "succeeded")
    story.wait("half is done", lambda: len(story.effects()) >= before + story.missions / 2)
    later = Counter(mission["factory_id"] for mission in story.missions_of(jobs) if mission["state"] == "succeeded")
    story.expect(later[spot.name] == here[spot.name], f"{spot.name} does nothing more while it is drained")
    story.command("factories", "resume", spot.name, "--state", str(state))


def _kill(story: Story, state: Path, spot: Place) -> None:
    """All processes of the factory die at once while it works; its missions run elsewhere after one lease."""
    [job] = story.publish("long", 1, sleep=5, target_factory_id=spot.name)
    [other] = story.publish("free", 1, sleep=3)
    del other
    story.wait("the long mission runs", lambda: story.missions_of([job])[0]["state"] == "running")
    holder = psutil.Process(int((spot.state / "lock").read_text()))
    family = [holder, *holder.children(recursive=True)]
    for process in family:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    died = time.monotonic()

    def noticed() -> bool:
        return story.missions_of([job])[0]["attempts"][0]["state"] in ("lost", "succeeded")

    story.wait("the lease of the dead one ends", noticed, LEASE_SECONDS + SLACK_SECONDS + 1)
    seconds = story.figures["noticed_seconds"] = time.monotonic() - died
    story.expect(
        seconds <= LEASE_SECONDS + SLACK_SECONDS, f"the dead factory was noticed after {seconds:.1f} s (lease 30 s)"
    )
    story.command("factory", "up", "--detach", "--state", str(spot.state), place=spot, UA_HANDLER_MODULES=ONLY_BETA)
    story.wait("everything has ended", lambda: not story.open(), 120)
    del state


def _count(story: Story) -> None:
    rows: list[dict[str, Any]] = []
    cursor = None
    while True:
        page = story.hq.get("/api/v1/missions", params={"limit": 200, **({"cursor": cursor} if cursor else {})}).json()
        rows += page["missions"]
        cursor = page["next_cursor"]
        if not cursor:
            break
    states = Counter(row["state"] for row in rows)
    story.expect(set(states) == {"succeeded"}, f"every mission succeeded: {dict(states)}")
    events = [story.hq.get(f"/api/v1/missions/{row['job_id']}/events").json()["events"] for row in rows]
    finals = Counter(sum(event["type"] == "succeeded" for event in of) for of in events)
    story.expect(set(finals) == {1}, "each ended once")
    story.expect(max(story.effects().values()) == 1, "no attempt was done twice")


def main(arguments: Sequence[str] | None = None) -> int:
    """Tell the story; 0 when every promise held."""
    parser = argparse.ArgumentParser(prog="ops/bench/fleet_story", description=__doc__)
    parser.add_argument("--missions", type=int, default=200, help="how many run while one factory is drained")
    parser.add_argument("--namespaces", action="store_true", help="each factory in a network namespace (root)")
    parser.add_argument("--keep", type=Path, help="keep all state in this folder, which is made")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="fleet-") as made:
        folder = options.keep or Path(made)
        folder.mkdir(parents=True, exist_ok=True)
        inherited = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
        story = Story(folder, options.missions, {**inherited, **QUICK, "UA_DOTENV_PATH": os.devnull})
        tell(story, namespaces=options.namespaces)
        story.say(json.dumps({"broken": story.broken, **{k: round(v, 1) for k, v in story.figures.items()}}))
        return 1 if story.broken else 0


if __name__ == "__main__":
    sys.exit(main())
