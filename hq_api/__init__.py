"""The HTTP door of headquarters: it lets missions in, shows what became of them, and never talks to a broker.

`app.py` puts it together · `access.py` who may call · `body.py` reading what was sent · `edge.py` what every
request meets first · `responses.py` every refusal in one place · `dependencies.py` what routers ask for ·
`publishing.py` orders become missions · `paging.py` cursors and filters · `validation.py` forms ·
`self_registration.py` headquarters registers itself · `routers/` one file per subject.
"""
