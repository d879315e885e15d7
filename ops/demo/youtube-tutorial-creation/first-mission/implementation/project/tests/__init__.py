"""The tests; `python3 -m unittest -v` runs them."""
