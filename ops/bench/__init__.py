"""Measurements, never assertions: `throughput` beside stock Celery; `noop.py` the kind they use."""
