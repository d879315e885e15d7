"""Repositories made from tutorial runs (contract http §11): each order is one mission, seen as a job from outside.

`names.py` how repositories and jobs are called · `runs.py` the run folder at HQ · `backends.py` by which way a job can
be had · `records.py` the job as outsiders read it · `making.py` from an order to a mission · `holding.py` claimed,
begun and brought home over HTTPS · `at_headquarters.py` the script run at HQ itself · `store.py` the SQL.
"""
