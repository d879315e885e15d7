"""Missions for a factory that only speaks HTTPS, and for every factory while Redis is away.

`python -m factory_tasks.pull [--standby]` · `puller.py` the loop: claim, have it run, report · `claims.py` asking HQ ·
`orders.py` what it answers · `nursery.py` the process with one thread that forks the others · `children.py` a process
for each attempt · `probe.py` whether Redis is there.

An attempt runs exactly as in a process of Celery's pool: the same spool, handlers, limits, marks and warden. So one
that comes over both ways is run once.
"""
