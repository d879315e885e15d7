"""The routes by subject, one file each.

`missions.py` in and out · `mission_log.py` output as it grows · `factories.py` heartbeats · `attempts.py` what
factories tell of their work · `bundles.py` what bootstrap missions download · `health.py` is it well · `closed.py`
what workers refuse.
"""
