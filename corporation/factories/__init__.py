"""Who works for HQ.

What is decided: `staleness.py` how a factory's silence is judged (`judging.py`: the same as SQL), `instances.py` who
may speak for it, `signs_of_life.py` its three lights, `permissions.py` which missions a node may be given, `labels.py`
what it says of itself. What is written: `store.py` its row and its beats, `registry.py` the fleet as it is shown,
`node_signs.py` what HQ's own workers say, `sweep.py` who fell silent, `lights.py` the echo through its queue,
`costs.py` what it spent, `control.py` who paused it, `access.py` who is shut out, `events.py` its history.
"""
