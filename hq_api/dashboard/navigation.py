"""The menu: which pages this node has, by its policy alone (contract http §13)."""

from dataclasses import asdict, dataclass
from typing import Annotated

from fastapi import APIRouter, Depends
from starlette.responses import Response

from corporation.roles import FactoryRuntimePolicy
from hq_api.access import Principal
from hq_api.dashboard.door import operator
from hq_api.dependencies import ReadSettings
from hq_api.responses import Json

router = APIRouter(tags=["dashboard"])


@dataclass(frozen=True)
class Item:
    """One entry of the menu."""

    title: str
    href: str


def menu(policy: FactoryRuntimePolicy) -> tuple[Item, ...]:
    """The pages of a node with this `policy`, in the order of the menu."""
    node = (Item("Node", "/dashboard"),)
    return (*node, Item("Corporation", "/dashboard/corporation")) if policy.shows_corporation_view else node


@router.get("/api/v1/dashboard/navigation")
def navigation(_: Annotated[Principal, Depends(operator)], settings: ReadSettings) -> Response:
    """The menu, for pages that are built elsewhere."""
    return Json({"items": [asdict(item) for item in menu(settings.policy)]})
