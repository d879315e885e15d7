"""Measurements, never assertions.

`throughput` (`throughput.py`) ours beside stock Celery (`stock.py`) · `noop.py` the kind both use · `cluster.py` a
whole HQ and factory as processes, for benches and fault tests.
"""
