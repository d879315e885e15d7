"""Both conversions, and what they refuse."""

import unittest

from roman_numerals import LARGEST, from_roman, to_roman

KNOWN = {
    1: "I",
    4: "IV",
    9: "IX",
    14: "XIV",
    40: "XL",
    90: "XC",
    400: "CD",
    1994: "MCMXCIV",
    2026: "MMXXVI",
    3999: "MMMCMXCIX",
}


class Conversions(unittest.TestCase):
    def test_known_numbers_are_written_as_the_romans_did(self) -> None:
        for number, numeral in KNOWN.items():
            with self.subTest(number=number):
                self.assertEqual(to_roman(number), numeral)

    def test_every_number_comes_back_the_same(self) -> None:
        for number in range(1, LARGEST + 1):
            self.assertEqual(from_roman(to_roman(number)), number)

    def test_small_letters_and_spaces_around_are_read(self) -> None:
        self.assertEqual(from_roman(" mmxxvi "), 2026)

    def test_numbers_that_have_no_numeral_are_refused(self) -> None:
        for number in (-1, 0, 4000):
            with self.subTest(number=number), self.assertRaises(ValueError):
                to_roman(number)

    def test_numerals_that_nobody_writes_are_refused(self) -> None:
        for numeral in ("", "IIII", "VX", "IC", "MMMM", "ABC", "XIVI"):
            with self.subTest(numeral=numeral), self.assertRaises(ValueError):
                from_roman(numeral)


if __name__ == "__main__":
    unittest.main()
