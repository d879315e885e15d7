"""The core of Corporation: decisions, the ledger and the loops; it knows no Celery and no FastAPI.

`envelope.py` what a mission says · `roles.py` what a node is · `settings.py` what the environment says ·
`strict_json.py` JSON from strangers · `missions/` the way of a mission · `engine/` HQ's loops ·
`factories/` who works · `federation/` the factory's own memory · `embedded/` servers for one machine ·
`cli/` the command `corporation` · `clock.py`, `db.py`, `wakeups.py`, `errors.py`, `logs.py` the
edges.
"""
