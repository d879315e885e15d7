"""Who works for HQ: `staleness.py` how a factory's silence is judged, `store.py` its row in the ledger,
`permissions.py` which missions a node may be given, `labels.py` what it says of itself.
"""
