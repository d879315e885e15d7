"""Numbers to Roman numerals and back."""

from roman_numerals.convert import LARGEST, from_roman, to_roman

__all__ = ["LARGEST", "from_roman", "to_roman"]
