"""The HTTP door of headquarters: it lets missions in, shows what became of them, and never talks to a broker.

`app.py` puts it together by the node's policy · `bounded_http.py` a connection before it is a request · `edge.py` what
every request meets first · `addresses.py` how paths and queries are read · `cors.py` other sites' pages · `gates.py`
what the policy lets pass · `access.py` who may call · `rate_limits.py` how often one may guess and ask · `body.py`
reading what was sent · `responses.py` every refusal in one place · `dependencies.py` what routers ask for ·
`publishing.py` orders become missions · `paging.py` cursors and filters · `validation.py` forms ·
`described_routes.py`, `api_description.py` what the API description says · `shown_letters.py`, `letter_filters.py` dead
letters as they are listed and meant · `edited_orders.py` the order that a replay brings · `metrics.py` numbers for
monitors · `log_events.py` a mission's log as it grows · `own_node.py` what this node says of itself · `own_health.py`
whether it is well · `self_registration.py` headquarters registers itself · `server_log.py` what the server logs ·
`routers/` one file per subject · `dashboard/` its pages · `telegram*.py` the bot, a process of its own.
"""

from typing import ClassVar

from starlette.convertors import PathConvertor, register_url_convertor


class _AnyText(PathConvertor):
    """The rest of an address with its line breaks: a job_id is any text, and the library's own ends at the first."""

    regex: ClassVar[str] = "(?s:.*)"


register_url_convertor("path", _AnyText())
