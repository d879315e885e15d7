"""How the pure tests search: the same few examples every time, so that they are quick and their verdict repeatable.

`pytest tests/core --hypothesis-profile=thorough` searches more than a hundred times as far.
"""

from hypothesis import settings

settings.register_profile("quick", max_examples=12, derandomize=True, deadline=None, database=None)
settings.register_profile("thorough", max_examples=1200, deadline=None)
settings.load_profile("quick")
