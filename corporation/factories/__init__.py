"""Who works for HQ: `staleness.py` how a factory's silence is judged, `store.py` its row in the ledger."""
