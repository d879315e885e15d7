"""Where the values of a command came from (the environment, a dotenv file, the vault), in words and without values."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import corporation
from corporation.secrets import LoadedSecrets, load_secrets
from corporation.variables import read_flag

PROJECT_ROOT: Final = Path(corporation.__file__).resolve().parent.parent
"""Where the dotenv file lies unless UA_DOTENV_PATH says otherwise."""
_ASKED_NOBODY: Final = frozenset({"MissingCredentials", "Plaintext"})
"""What a load says that ended before the vault was asked."""


def dotenv_file(environ: Mapping[str, str]) -> Path:
    """The dotenv file of a process with `environ`, whether it is there or not."""
    return PROJECT_ROOT / (environ.get("UA_DOTENV_PATH", "").strip() or ".env")


def origin_of(name: str, environ: Mapping[str, str]) -> str:
    """The variable `name` and where its value came from, to stand behind "from" in a sentence.

    `environ` is what the process was started with. Secrets are loaded once in a process; raises SettingsError as that.
    """
    loaded = load_secrets(environ, PROJECT_ROOT)
    if name not in loaded.secret_names:
        return f"{name} in the environment"
    return f"{name} in {'Infisical' if loaded.report.source == 'infisical' else dotenv_file(environ)}"


def origin_lines(environ: Mapping[str, str]) -> list[str]:
    """What a person has to know when values did not come from the environment alone or from a vault that answered.

    A line each for: values of a dotenv file, a vault that was asked in vain, a dotenv file that was not read whole.
    """
    loaded = load_secrets(environ, PROJECT_ROOT)
    report = loaded.report
    if report.source == "infisical":
        return []
    of_vault, of_file = _errors(loaded)
    vault = f"the vault gave none ({of_vault})" if of_vault else "no vault was asked"
    lines: list[str] = []
    if report.source == "dotenv":
        lines.append(f"{_counted(report.loaded_count)} from {dotenv_file(environ)}; {vault}")
    elif of_vault:
        lines.append(f"No variable comes from a vault or a dotenv file: {vault}")
    # Naming the null device is how one says that there is no such file.
    if of_file and str(dotenv_file(environ)) != os.devnull:
        lines.append(f"{dotenv_file(environ)} was not read whole ({of_file}); correct it, or remove it")
    return lines


def _errors(loaded: LoadedSecrets) -> tuple[str, str]:
    """The classes of what went wrong with the vault, empty when none was asked, and with a dotenv file that is there.

    A load lists the vault's first (E-12).
    """
    errors = list(loaded.report.errors)
    is_enabled = read_flag(loaded.environ.get("UA_INFISICAL_ENABLED"), default=True)
    first = errors.pop(0) if is_enabled and errors else ""
    rest = dict.fromkeys(error for error in errors if error != FileNotFoundError.__name__)
    return "" if first in _ASKED_NOBODY else first, ", ".join(rest)


def _counted(number: int) -> str:
    return "1 variable comes" if number == 1 else f"{number} variables come"
