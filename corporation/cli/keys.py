"""`corporation keys new | show`: the keys that sign missions and releases."""

import os
from pathlib import Path
from typing import Annotated, Final

import typer

from corporation.cli import exits
from corporation.cli.connection import effective, state_folder, with_secrets
from corporation.cli.exits import Refusal
from corporation.cli.options import JsonOption, StateOption
from corporation.cli.output import say, say_json, say_table
from corporation.settings import load_settings
from corporation.trust.keyring import kid_of, new_key, public_keys, public_of, why_keys_are_refused
from corporation.trust.signatures import GOOD_FOR_SECONDS

_KEPT_DAYS: Final = GOOD_FOR_SECONDS // 86_400
"""How long a message that was signed is still run."""
_HELP: Final = (
    "Make keys that sign missions or releases, and see which are trusted.\n\n"
    "When HQ signs missions with a new key, keep the old public key beside it in UA_MISSION_KEYS until both is true: "
    "every factory has been online since the new one was named there (they hear of keys with their beats), and "
    f"{_KEPT_DAYS} days have passed since the old one signed last (so long a message may lie in a queue and still be "
    "run). `corporation keys new` prints the steps."
)

app = typer.Typer(help=_HELP, no_args_is_help=True)

COLUMNS: Final = ("key id", "public key", "for")
_FILE_HELP: Final = "Write the private key to this new file, which only you may read."
_PRINT_HELP: Final = "Print the private key, for a vault that reads it from there."
_ROTATION: Final = f"""\
To sign missions with it, so that no factory stops for a moment:
  1. add the public key to UA_MISSION_KEYS of HQ's engine and API, and start them anew: factories hear of it
  2. when each factory has been online since (`corporation factories`), put the private key into
     UA_MISSION_SIGNING_KEY, and the old public key into UA_MISSION_KEYS; start both anew
  3. after {_KEPT_DAYS} days nothing is left that the old key signed: take it out of UA_MISSION_KEYS, and factories
     forget it
A factory that missed it takes no missions until it joins again.
To sign releases with it: keep the private key off every machine of the fleet, and give factories the public one in
UA_UPDATE_KEYS."""


@app.command()
def new(
    file: Annotated[Path | None, typer.Option("--file", metavar="FILE", help=_FILE_HELP)] = None,
    printed: Annotated[bool, typer.Option("--print", help=_PRINT_HELP)] = False,
    as_json: JsonOption = False,
) -> None:
    """Make a key pair. The private key goes to --file or, when asked with --print, to the terminal; nowhere else."""
    if (file is None) is not printed:
        raise Refusal(exits.USAGE, "Say where the private key goes: either --file FILE or --print")
    private = new_key()
    if file is not None:
        write_private(file, private)
    public = public_of(private)
    if as_json:
        say_json({"kid": kid_of(public), "public_key": public} | ({"private_key": private} if printed else {}))
        return
    say(f"key id       {kid_of(public)}\npublic key   {public}")
    say(f"private key  {private}" if printed else f"The private key is in {file}; only you may read it")
    say(f"\n{_ROTATION}")


@app.command()
def show(as_json: JsonOption = False, state: StateOption = None) -> None:
    """Show the public keys that this node trusts, and which of them signs here; never a private one."""
    settings = load_settings(effective(with_secrets(os.environ), state_folder(state)), checks=(why_keys_are_refused,))
    own = settings.mission_signing_key
    signs = public_of(own.get_secret_value()) if own else None
    rows = [(kid_of(key), key, "signs missions" if key == signs else "missions") for key in public_keys(settings)]
    rows += [(kid_of(key), key, "releases") for key in settings.update_keys]
    if as_json:
        say_json({"keys": [{"kid": kid, "public_key": key, "for": what} for kid, key, what in rows]})
        return
    if not rows:
        say("No keys: missions are run unsigned. `corporation keys new` makes one")
        return
    say_table(COLUMNS, rows)


def write_private(file: Path, private: str) -> None:
    """A new file that only its owner may read holds the key; refuses one that is there already."""
    try:
        opened = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise Refusal(
            exits.DATA, f"{file} is there already; a key is not written over another: name a new file"
        ) from None
    with os.fdopen(opened, "w", encoding="ascii") as draft:
        draft.write(f"{private}\n")
        draft.flush()
        os.fsync(draft.fileno())
