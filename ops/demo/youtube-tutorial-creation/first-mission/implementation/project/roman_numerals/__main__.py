"""`python3 -m roman_numerals 2026` prints MMXXVI, and `python3 -m roman_numerals MMXXVI` prints 2026."""

import sys

from roman_numerals.convert import from_roman, to_roman


def main() -> int:
    """Convert the one argument, whichever way round it is; 1 and a reason when it cannot be."""
    if len(sys.argv) != 2:
        print("use: python3 -m roman_numerals <number or numeral>", file=sys.stderr)
        return 2
    word = sys.argv[1]
    try:
        print(to_roman(int(word)) if word.isdecimal() else from_roman(word))
    except ValueError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
