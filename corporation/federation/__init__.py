"""What a factory keeps for itself: `spool.py` its memory of attempts, `processes.py` who of its processes still lives,
`hq.py` its way to headquarters, `hq_token.py` what it shows there.
"""
