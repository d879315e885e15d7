"""Bootstrap jobs for workers that only speak HTTPS (contract http §11)."""

from fastapi import APIRouter

router = APIRouter(tags=["bootstrap_jobs"])
