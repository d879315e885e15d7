"""What a factory keeps for itself: `spool.py` its memory of attempts, `processes.py` who of its processes still lives,
`message_gate.py` and `message_frame.py` what it takes from its queues, `refused_messages.py` what it did not take,
`hq.py` its way to headquarters, `hq_token.py` what it shows there.
"""
