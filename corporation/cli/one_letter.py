"""One dead letter: found by its name, told what became of it, and run again with a changed order."""

from corporation.cli import exits
from corporation.cli.after_publishing import say_if_nobody_runs
from corporation.cli.client import HqClient, Json
from corporation.cli.exits import Refusal
from corporation.cli.order_changes import Change, new_order
from corporation.cli.output import say, say_json, working
from corporation.missions.wording import positional


def find(client: HqClient, letter: str) -> Json:
    """The dead letter that is called so; refuses (66) when there is none."""
    found = client.dead_letter(letter)
    if found is None:
        raise no_letter(letter)
    return found


def no_letter(*letters: str) -> Refusal:
    """What a person is told who named dead letters that are not there."""
    return Refusal(
        exits.NO_INPUT, f"No dead letter is called {', '.join(letters)}; `corporation dead-letters list` shows them"
    )


def run_again_changed(
    client: HqClient, letter: str, change: Change, *, expected: bool, dry_run: bool, as_json: bool
) -> None:
    """Run the letter's mission again with its order as `change` says; a `dry_run` only prints that order."""
    with working("Asking HQ"):
        found = find(client, letter)
        _check_open(client, found)
    order = new_order(change, found.get("envelope"))
    if order is None:
        raise Refusal(
            exits.DATA,
            f"{letter} holds no order that could be changed; write one into a file and say --envelope FILE, or `-`",
        )
    if dry_run:
        say_json(order)
        return
    with working("Asking HQ"):
        job_id = client.replay_dead_letter(letter, order, wait=expected).get("job_id")
    if as_json:
        say_json({"replayed": [{"dlq_id": letter, "job_id": job_id}], "refused": []})
        return
    say(f"{letter}  runs again as {job_id}, with the changed order")
    say_if_nobody_runs(client, str(job_id))


def run_before(client: HqClient, found: Json) -> str:
    """As which mission a letter that was replayed has run again, and how that one stands."""
    job_id = str(found.get("replay_job_id"))
    return f"{found.get('dlq_id')}  ran again before, as {job_id} ({client.mission(job_id).get('state')})"


def _check_open(client: HqClient, found: Json) -> None:
    """Refuses (65) a letter that was decided about: HQ would run nothing, or what was asked for the first time."""
    if found.get("status") == "replayed":
        again = f"corporation missions replay {positional(str(found.get('replay_job_id')))}"
        raise Refusal(
            exits.DATA, f"{run_before(client, found)}; that one is changed with the same options: `{again} …`"
        )
    if found.get("status") == "discarded":
        raise Refusal(exits.DATA, f"{found.get('dlq_id')} was discarded for good; publish its mission anew instead")
