"""How the pure tests search: the same few examples every time, so that they are quick and their verdict repeatable.

`ops/test core --thorough` searches more than a hundred times as far.
"""

from examples import THOROUGH
from hypothesis import settings

settings.register_profile("quick", max_examples=10, derandomize=True, deadline=None, database=None)
settings.register_profile("thorough", max_examples=1200, deadline=None)
settings.load_profile("thorough" if THOROUGH else "quick")
