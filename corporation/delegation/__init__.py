"""The `ua:missions:*` streams: what producers and readers outside know of us (contract streams).

`keys.py` names · `codec.py` entries to values and back (pure) · `mission_stream.py` the consumer group · `importer.py`
stream → ledger · `importing.py` one batch of it · `publisher.py` ledger → results and dead letters · `building.py`
both, wired · `consumer.py` both as a process of their own · `watching.py` lag, pending and age · `redis_errors.py` what
Redis says when it does not.
"""
