"""Filling in a project template, in a process of its own: `python -I templates.py <folder> <variables.json>`.

Templates come from outside. Jinja's sandbox keeps them from Python, the tether bounds their time, and the limits set
here bound their memory and what they write. The file imports nothing of ours, so that it starts without the project.
"""

import json
import os
import resource
import sys
from collections.abc import Mapping
from pathlib import Path

from jinja2 import StrictUndefined
from jinja2.sandbox import SandboxedEnvironment

REFUSED = 65
"""The exit code for a template that can never be filled in (EX_DATAERR)."""
_SUFFIX = ".jinja"
_MEMORY_BYTES = 1_000_000_000
_FILE_BYTES = 50_000_000


class TemplateRefusedError(Exception):
    """A template asks for something it may not have, or for a variable that was not given."""


def render_folder(folder: Path, variables: Mapping[str, object]) -> None:
    """Every `{{name}}` in a path below `folder` is filled in, and every `.jinja` file is rendered without the suffix.

    Links are left as they are. Raises TemplateRefusedError; the folder may be half rendered then.
    """
    environment = SandboxedEnvironment(undefined=StrictUndefined, keep_trailing_newline=True, autoescape=False)
    # Bottom up, so that the path of what is still to do does not change.
    for place, folders, files in os.walk(folder, topdown=False):
        for name in (*files, *folders):
            _render_one(environment, Path(place, name), variables)


def _render_one(environment: SandboxedEnvironment, path: Path, variables: Mapping[str, object]) -> None:
    is_template = path.suffix == _SUFFIX and path.is_file() and not path.is_symlink()
    try:
        name = environment.from_string(path.name).render(variables) if "{{" in path.name else path.name
        if is_template:
            name = name.removesuffix(_SUFFIX)
            path.write_text(environment.from_string(path.read_text("utf-8")).render(variables), "utf-8")
    except Exception as error:  # a stranger's template may raise anything, and all of it is the template's fault
        raise TemplateRefusedError(f"{path.name}: {type(error).__name__}: {error}") from None
    if name != path.name:
        path.rename(_checked(path, name))


def _checked(path: Path, name: str) -> Path:
    if name in ("", ".", "..") or "/" in name or "\0" in name or name.lower() == ".git":
        raise TemplateRefusedError(f"{path.name}: its name becomes {name!r}, which is no name for a file")
    target = path.with_name(name)
    if os.path.lexists(target):
        raise TemplateRefusedError(f"{path.name}: there is a {name!r} beside it already")
    return target


def main(folder: str, variables: str) -> int:
    """Render `folder` with the object in the file `variables`; 0, or 65 with the reason on standard error."""
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_BYTES, _MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_FSIZE, (_FILE_BYTES, _FILE_BYTES))
    try:
        render_folder(Path(folder), json.loads(Path(variables).read_text("utf-8")))
    except TemplateRefusedError as error:
        sys.stderr.write(f"{error}\n")
        return REFUSED
    return 0


if __name__ == "__main__":
    raise SystemExit(main(*sys.argv[1:3]))
