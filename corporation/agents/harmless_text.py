"""Text from files and from the environment, made fit for a line of our own documents; pure."""

import re
import unicodedata
from typing import Final

LONGEST: Final = 500
"""Characters of a description: a sentence or two."""
LONGEST_VALUE: Final = 4096
"""Characters of any value in a document: the longest path."""


def one_line(text: str, longest: int = LONGEST) -> str:
    """`text` on one line of at most `longest` characters, without controls and invisible marks."""
    # Category C is all that has no shape of its own, among it the tag letters that hide orders to a model; Zl and Zp
    # break lines.
    seen = "".join(
        " " if unicodedata.category(letter)[0] == "C" or letter in "\u2028\u2029" else letter for letter in text
    )
    line = " ".join(seen.split())
    return line if len(line) <= longest else f"{line[: longest - 1].rstrip()}…"


def in_markdown(value: object) -> str:
    """`value` inside a Markdown document: one line that opens or closes no HTML, comment, code or struck text."""
    line = one_line(str(value), LONGEST_VALUE)
    return re.sub("~~+", "~", line).replace("<", "&lt;").replace(">", "&gt;").replace("`", "'")
