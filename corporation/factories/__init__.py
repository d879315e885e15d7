"""Who works for HQ: `beat.py` what a factory says of itself, `staleness.py` how its silence is judged,
`store.py` its row in the ledger.
"""
