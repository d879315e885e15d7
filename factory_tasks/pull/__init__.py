"""Missions for a factory that only speaks HTTPS, and for every factory while Redis is away.

`python -m factory_tasks.pull [--standby]` · `puller.py` the loop: claim, run, report · `children.py` a process for each
attempt · `claims.py` asking HQ, and what it answers · `probe.py` whether Redis is there · `orders.py` an order as HQ
hands it out.

An attempt runs exactly as in a process of Celery's pool: the same spool, handlers, limits, marks and warden. So one
that comes over both ways is run once.
"""
