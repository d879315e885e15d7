"""Every statement that changes a mission, one file per step of its way.

`submitting.py` in · `dispatching.py` to a factory · `sending.py` to the broker · `reporting.py` what came back ·
`finishing.py` its end or its next try · `leases.py` who is still alive · `handed_over.py` what the broker was given ·
`broadcasting.py` orders to every factory · `telling.py` what the streams have still to be told · `dead_lettering.py`
entries that are no mission · `dead_letters.py` what became of them · `replaying.py` names for another run ·
`measuring.py` numbers for monitors · `locking.py` in which order.
"""
