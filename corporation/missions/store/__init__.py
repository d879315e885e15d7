"""Every statement that changes a mission, one file per step of its way.

`submitting.py` in · `dispatching.py` to a factory · `sending.py` to the broker · `reporting.py` what came back ·
`finishing.py` its end or its next try · `leases.py` who is still alive · `handed_over.py` what the broker was given.
"""
