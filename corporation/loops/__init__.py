"""How HQ's loops run, whatever they do.

`forever.py` one loop · `wakeups.py` who wakes it · `running.py` all of a process · `ticks.py` what
the ledger is told of them.
"""
