"""The two conversions."""

LARGEST = 3999

_SIGNS = (
    (1000, "M"),
    (900, "CM"),
    (500, "D"),
    (400, "CD"),
    (100, "C"),
    (90, "XC"),
    (50, "L"),
    (40, "XL"),
    (10, "X"),
    (9, "IX"),
    (5, "V"),
    (4, "IV"),
    (1, "I"),
)


def to_roman(number: int) -> str:
    """`number` as a Roman numeral; raises ValueError outside 1 to 3999."""
    if not 1 <= number <= LARGEST:
        raise ValueError(f"{number} has no Roman numeral; it must lie between 1 and {LARGEST}")
    numeral = ""
    for value, sign in _SIGNS:
        count, number = divmod(number, value)
        numeral += sign * count
    return numeral


def from_roman(numeral: str) -> int:
    """The number that `numeral` writes, in capitals or not; raises ValueError if it is not properly written."""
    rest = numeral.strip().upper()
    number = 0
    for value, sign in _SIGNS:
        while rest.startswith(sign):
            number += value
            rest = rest[len(sign) :]
    # Only one way of writing a number is proper: whatever does not come back the same is not.
    if rest or not 1 <= number <= LARGEST or to_roman(number) != numeral.strip().upper():
        raise ValueError(f"{numeral!r} is not a Roman numeral")
    return number
