"""What is worth a line once a mission is stored: that nobody can run it now, or that its key has another order."""

from collections.abc import Mapping
from typing import Any, Final

from corporation.cli.client import HqClient, Json
from corporation.cli.exits import Refusal
from corporation.cli.output import say
from corporation.cli.why import command

NOBODY: Final = {
    "no_capable_factory": "No factory can run {kind} at present",
    "no_live_factory": "No factory that could run {kind} is online at present",
    "all_paused": "Every factory that could run {kind} is paused at present",
    "target_unknown": "The factory that it is meant for has not registered yet",
    "target_offline": "The factory that it is meant for is not online at present",
    "target_paused": "The factory that it is meant for is paused at present",
}
"""The reasons (H-29) for which a mission waits until a person does something; any other one passes by itself."""


def say_if_nobody_runs(client: HqClient, job_id: str) -> None:
    """Print where to read more when nobody can run the mission as things are; nothing when HQ cannot say so now."""
    try:
        codes = [reason.get("code") for reason in client.explanation(job_id).get("reasons") or []]
        words = next((NOBODY[code] for code in codes if code in NOBODY), None)
        kind = client.mission(job_id).get("mission_kind") if words and "{kind}" in words else None
    except Refusal:  # it is stored, whatever else can be said of it
        return
    if words:
        say(f"{words.format(kind=kind)}: {command(job_id)}")


def say_if_another_order(client: HqClient, job_id: str, sent: Mapping[str, Any]) -> None:
    """Print what the order of the stored mission says otherwise than `sent`; nothing when both say the same."""
    try:
        stored: Json = client.mission(job_id).get("envelope") or {}
    except Refusal:
        return
    if differing := differences(sent, stored):
        say(
            f"Note: that mission has another order, which differs in {', '.join(differing)}; another key makes this one"
        )


def differences(sent: Mapping[str, Any], stored: Mapping[str, Any]) -> list[str]:
    """The parts of the order `sent` that `stored` says otherwise; what was not said is not compared."""
    ours, theirs = _parts(sent), _parts(stored)
    return [name for name, value in ours.items() if theirs.get(name) != value]


def _parts(envelope: Mapping[str, Any]) -> Json:
    payload = envelope.get("payload") or {}
    context = {name: value for name, value in (payload.get("context") or {}).items() if name != "_retry_count"}
    others = {name: value for name, value in envelope.items() if name not in ("payload", "idempotency_key", "job_id")}
    return {"task": payload.get("task"), "context": context} | others
