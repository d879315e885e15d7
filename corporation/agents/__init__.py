"""The agents of a node: their names, the tools the policy lets them have, and the `capabilities.md` they are told.

`personas.py` who is called what · `toolkits.py` which tools a policy gives · `roster.py` agents and skills from files ·
`front_matter.py` the head of such a file · `requirements.py` what a file needs to be usable here ·
`harmless_text.py` strangers' text in our documents · `capabilities.py` the document itself.
"""
