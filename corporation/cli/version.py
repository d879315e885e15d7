"""`corporation version`."""

from importlib.metadata import version as version_of

from corporation.cli.options import JsonOption
from corporation.cli.output import say, say_json


def version(as_json: JsonOption = False) -> None:
    """Print the version of Corporation."""
    number = version_of("corporation")
    if as_json:
        say_json({"version": number})
    else:
        say(number)
