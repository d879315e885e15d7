"""The core of Corporation: decisions, the ledger and the loops; it knows no Celery and no FastAPI.

`bootstrap.py` how a process starts · `secrets.py`, `infisical.py` where its secrets come from · `settings.py`,
`variables.py`, `oddities.py` what the environment says · `roles.py` what a node is and may do · `llm_provider.py` whose
models it uses · `tokens/` who may ask · `agents/` personas, tools, `capabilities.md` ·
`envelope.py` what a mission says · `strict_json.py` JSON from strangers · `missions/` the way of a mission ·
`delegation/` the Redis streams · `engine/` HQ's loops · `loops/` how loops run · `factories/` who works ·
`federation/` the factory's own memory · `embedded/` servers for one machine · `cli/` the command `corporation` ·
`clock.py`, `db.py`, `database_role.py`, `broker_link.py`, `wakeups.py`, `errors.py`, `logs.py`, `masking.py`,
`shown_address.py`, `own_process.py` the edges.
"""
