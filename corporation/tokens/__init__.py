"""Who may be let in: `minting.py` our JWTs and who gets which, `comparison.py` how secrets are compared,
`credentials.py` what a factory proves itself with, `revocation.py` tokens that ended before their time, alone or with
all of their factory.
"""
