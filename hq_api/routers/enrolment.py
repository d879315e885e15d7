"""Factories join with a code, and are shut out again (contract http §5)."""

from fastapi import APIRouter

router = APIRouter(tags=["enrolment"])
