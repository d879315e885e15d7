"""The dashboard's door and frame: `router` has its pages, and the dependency `operator` guards every address of it.

`door.py` who asks, and signing in and out · `session.py` the cookie · `same_origin.py` who may change things with it ·
`login_form.py` what that form may send · `page_route.py` how pages say no · `navigation.py` the menu · `pages.py` the
pages · `node.py` what they say of this node · `overview.py`, `fleet.py` and of the fleet, with the SQL behind it ·
`rendering.py` HTML and files.
"""

from fastapi import APIRouter

from hq_api.dashboard import door, navigation, pages
from hq_api.dashboard.door import operator as operator

router = APIRouter()
for part in (door.router, navigation.router, pages.router):
    router.include_router(part)
