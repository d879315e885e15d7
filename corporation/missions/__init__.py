"""The way of a mission (README.md beside this file is its map).

Decisions, pure: `states.py` what may follow what · `kinds.py` what sort it is · `routing.py` which factory ·
`retry.py` how often and how late · `outcomes.py` what a handler answers · `finish.py` what a report means ·
`broadcast.py` an order to every factory · `explain.py`, `why_*.py` and their words why a mission is where it is.
Steps: `submit.py` in · `dispatch.py` to a factory · `outbox.py` to the broker · `collect.py` back · `cancel.py`
stopped · `rescue.py`, `evict.py` gone · `orphans.py`, `rebuild.py` what lies in the queues · `replay.py` again ·
`adopt.py` after all · `dead_letters.py`, `letters_in_bulk.py` what people do with what failed.
`queries.py` what is read · `store/` every statement that writes.
"""
