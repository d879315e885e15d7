"""HQ's loops, one thread each, each a `tick()` that tests call by hand; `python -m corporation.engine` runs them.

`dispatcher.py` waiting → attempts · `sender.py` outbox → broker · `collector.py` reports → ends · `rescuer.py` silent
attempts → another try · `rebuilder.py` rebuilds that somebody waits for · `loop_names.py` which there are. The importer
and the publisher of the streams are in `corporation/delegation/`, how a loop runs is in `corporation/loops/`.
"""
