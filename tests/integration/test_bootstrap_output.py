"""Output is cut, forwarded up to a limit and kept at its end, whatever bytes come."""

import pytest

from factory_tasks.bootstrap_repo.making import shortened
from factory_tasks.bootstrap_repo.output import MOST_LINES, Collected, Forwarder


class Heard(list[tuple[str, str]]):
    def __call__(self, line: str, stream: str = "log") -> None:
        self.append((stream, line))


def collected(*chunks: bytes, limit: int = 6000) -> tuple[list[str], str]:
    heard = Heard()
    stream = Collected("stdout", limit, heard)
    for chunk in (*chunks, b""):
        stream.feed(chunk)
    return [line for _, line in heard], stream.tail


@pytest.mark.parametrize(
    ("chunks", "lines"),
    [
        ((b"one\ntwo\n",), ["one", "two"]),
        ((b"on", b"e\nt", b"wo"), ["one", "two"]),
        ((b"\n\n",), ["", ""]),
        ((), []),
        (("ä".encode()[:1], "ä\n".encode()[1:]), ["ä"]),
        ((b"a\xffb\n",), ["a\ufffdb"]),
        ((b"a\x1b[31mb\tc\r\n",), ["a\x1b[31mb\tc\r"]),
        ((b"a\0b\n",), ["a\u2400b"]),
    ],
)
def test_bytes_become_lines(chunks: tuple[bytes, ...], lines: list[str]) -> None:
    assert collected(*chunks)[0] == lines


def test_a_line_without_end_is_cut_and_does_not_swallow_the_next() -> None:
    lines, _ = collected(*[b"x" * 3000] * 5, b"\nnext\n")

    assert (len(lines[0]), lines[1:]) == (4000, ["next"])


def test_the_end_of_the_output_is_kept() -> None:
    assert collected(b"abc", b"def", limit=4)[1] == "cdef"


def test_after_the_limit_one_line_says_so_and_nothing_more_comes() -> None:
    heard = Heard()
    forward = Forwarder(heard)
    for number in range(MOST_LINES + 500):
        forward(str(number), "stdout")

    assert (len(heard), heard[-2], heard[-1][0]) == (MOST_LINES + 1, ("stdout", str(MOST_LINES - 1)), "log")
    assert "not shown" in heard[-1][1]


def test_the_limit_in_bytes_counts_bytes() -> None:
    heard = Heard()
    forward = Forwarder(heard)
    for _ in range(2000):
        forward("ä" * 4000, "stdout")

    assert (len(heard), "not shown" in heard[-1][1]) == (1250, True)


@pytest.mark.parametrize("words", ["", "short", "x" * 5000 + "the end"])
def test_an_error_has_at_most_1200_characters_and_keeps_its_end(words: str) -> None:
    text = shortened("The script failed", words)

    assert (len(text) <= 1200, text.startswith("The script failed"), text.endswith(words[-7:])) == (True, True, True)
