"""What the API description says of routes that read their bodies themselves: the dependencies do, in their order."""

from typing import Any, Literal

from pydantic import BaseModel


def reads(form: type[BaseModel], *, required: bool) -> dict[str, Any]:
    """`openapi_extra` of a route whose body is a `form`."""
    return {"requestBody": {"required": required, "content": _json(form, "validation")}}


def answers(answer: type[BaseModel]) -> dict[str, Any]:
    """`openapi_extra` of a route that answers 200 with an `answer`."""
    return {"responses": {"200": {"content": _json(answer, "serialization")}}}


def _json(model: type[BaseModel], mode: Literal["validation", "serialization"]) -> dict[str, Any]:
    return {"application/json": {"schema": model.model_json_schema(mode=mode)}}
