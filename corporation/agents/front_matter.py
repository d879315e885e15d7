"""The head of a Markdown file that says what the file is: YAML between two lines of `---`.

Files come from anybody: a bad one is an error with a reason, and never more than a moment's work.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import yaml

from corporation.errors import CorporationError

LONGEST_HEAD: Final = 8 * 1024
DEEPEST: Final = 6
"""Lists in lists; ours have three levels, and the parser's work grows with the square of the depth."""
_HEAD: Final = re.compile(rb"\A(?:\xef\xbb\xbf)?---[ \t]*\r?\n(.*?)^---[ \t]*\r?$", re.DOTALL | re.MULTILINE)

_OPENS: Final = (
    yaml.BlockMappingStartToken,
    yaml.BlockSequenceStartToken,
    yaml.FlowMappingStartToken,
    yaml.FlowSequenceStartToken,
)
_CLOSES: Final = (yaml.BlockEndToken, yaml.FlowMappingEndToken, yaml.FlowSequenceEndToken)


class FrontMatterError(CorporationError):
    """A file does not say what it is; the message is the reason, without the file's name."""

    code = "front_matter"


def read_front_matter(path: Path) -> dict[str, Any]:
    """The fields at the head of `path`; raises FrontMatterError when it has none that can be read.

    Only the head is read, so a file may be as long as it likes.
    """
    try:
        # A pipe under such a name would never end.
        if not path.is_file():
            raise FrontMatterError("it is no file")
        with path.open("rb") as file:
            head = _HEAD.match(file.read(LONGEST_HEAD))
    except OSError as error:
        raise FrontMatterError(f"it cannot be read: {error.strerror}") from None
    if head is None:
        raise FrontMatterError(f"it has no front matter between two lines of --- in its first {LONGEST_HEAD} bytes")
    return _parsed(head[1])


def _parsed(head: bytes) -> dict[str, Any]:
    try:
        text = head.decode()
        _refuse_endless(text)
        fields: Any = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError) as error:
        raise FrontMatterError(f"its front matter is no YAML ({type(error).__name__})") from None
    if not isinstance(fields, dict):
        raise FrontMatterError("its front matter has no fields like `name: …`")
    return {str(name): value for name, value in fields.items()}


def _refuse_endless(text: str) -> None:
    depth = 0
    for token in yaml.scan(text):
        if isinstance(token, yaml.AnchorToken | yaml.AliasToken):
            # Anchors that are merged into each other grow without end.
            raise FrontMatterError("its front matter has anchors; write the values out")
        depth += isinstance(token, _OPENS) - isinstance(token, _CLOSES)
        if depth > DEEPEST:
            raise FrontMatterError(f"its front matter is more than {DEEPEST} levels deep")


def text_field(fields: Mapping[str, Any], name: str) -> str:
    """The text under `name`; raises FrontMatterError when it is missing, blank or no text."""
    value = fields.get(name)
    if not isinstance(value, str) or not value.strip():
        raise FrontMatterError(f"its front matter has no text under `{name}`")
    return value.strip()
