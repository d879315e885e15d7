"""Measurements, never assertions.

`throughput` (`throughput.py`) ours beside stock Celery (`stock.py`) · `noop.py` the kind both use · `cluster.py` a
whole HQ and factory as processes, for benches and fault tests · `fresh_servers.py` the servers below a bench ·
`streams` (`streams.py`) how fast, steady and quiet the streams are · `streams_chaos` (`streams_chaos_*.py`)
everything around them killed, then judged · `chaos` (`chaos_*.py`) the whole way of a mission under fire, then
judged; `--mutants` whether it notices mistakes · `strange_clock.py` a process whose wall clock is wrong.
"""
