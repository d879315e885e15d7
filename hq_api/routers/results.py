"""An attempt's result comes home over HTTPS (contract http §8)."""

from fastapi import APIRouter

router = APIRouter(tags=["results"])
