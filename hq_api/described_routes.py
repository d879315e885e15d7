"""What the API description says of routes that read their bodies themselves: the dependencies do, in their order."""

from collections.abc import Mapping
from typing import Any, Final, Literal

from pydantic import BaseModel

_HERE: Final = "#/$defs/"


def reads(form: type[BaseModel], *, required: bool) -> dict[str, Any]:
    """`openapi_extra` of a route whose body is a `form`."""
    return {"requestBody": {"required": required, "content": _json(form, "validation")}}


def reads_nothing() -> dict[str, Any]:
    """`openapi_extra` of a route whose body says nothing: an empty object, in which everything is ignored."""
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": {"type": "object"}}}}}


def answers(answer: type[BaseModel]) -> dict[str, Any]:
    """`openapi_extra` of a route that answers 200 with an `answer`."""
    return {"responses": {"200": {"content": _json(answer, "serialization")}}}


def sends(media: str, description: str) -> dict[int | str, dict[str, Any]]:
    """`responses` of a route whose 200 is no JSON; its `response_class` must be one without a media type of its own."""
    return {200: {"description": description, "content": {media: {"schema": {"type": "string"}}}}}


def also(statuses: Mapping[int, str]) -> dict[int | str, dict[str, Any]]:
    """`responses` of a route that also answers, in JSON, with these `statuses`, each with what it means."""
    return {status: {"description": said, "content": {"application/json": {}}} for status, said in statuses.items()}


def _json(model: type[BaseModel], mode: Literal["validation", "serialization"]) -> dict[str, Any]:
    schema = model.model_json_schema(mode=mode)
    return {"application/json": {"schema": _inlined(schema, schema.pop("$defs", {}))}}


def _inlined(schema: Any, parts: Mapping[str, Any]) -> Any:
    """`schema` with each of its `parts` where it is named: a reference would point into the whole description."""
    if isinstance(schema, list):
        return [_inlined(one, parts) for one in schema]
    if not isinstance(schema, dict):
        return schema
    named = schema.get("$ref", "")
    if isinstance(named, str) and named.startswith(_HERE):
        beside = {key: value for key, value in schema.items() if key != "$ref"}
        return _inlined({**parts[named.removeprefix(_HERE)], **beside}, parts)
    return {key: _inlined(value, parts) for key, value in schema.items()}
