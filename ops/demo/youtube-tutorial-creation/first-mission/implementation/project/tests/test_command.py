"""The command line, run as a person runs it."""

import subprocess
import sys
import unittest
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent


def run(*arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "roman_numerals", *arguments]
    return subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, timeout=30)


class CommandLine(unittest.TestCase):
    def test_a_number_is_answered_with_its_numeral(self) -> None:
        self.assertEqual(run("2026").stdout, "MMXXVI\n")

    def test_a_numeral_is_answered_with_its_number(self) -> None:
        self.assertEqual(run("mcmxciv").stdout, "1994\n")

    def test_nonsense_is_answered_with_a_reason_and_a_failure(self) -> None:
        answer = run("hello")

        self.assertEqual(answer.returncode, 1)
        self.assertIn("not a Roman numeral", answer.stderr)


if __name__ == "__main__":
    unittest.main()
