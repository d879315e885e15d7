"""HQ's loops, one thread each, each a `tick()` that tests call by hand; `python -m corporation.engine` runs them.

`forever.py` how a loop runs · `wakeups.py` who wakes it · `dispatcher.py` waiting → attempts · `sender.py` outbox →
broker · `collector.py` reports → ends · `rescuer.py` silent attempts → another try.
"""
