"""The way of a mission (README.md beside this file is its map).

Decisions, pure: `states.py` what may follow what · `kinds.py` what sort it is · `routing.py` which factory · `retry.py`
how often and how late · `outcomes.py` what a handler answers · `finish.py` what a report means.
Steps: `submit.py` in · `dispatch.py` to a factory · `outbox.py` to the broker · `collect.py` back · `rescue.py` gone.
`queries.py` what is read · `store/` every statement that writes.
"""
