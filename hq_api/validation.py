"""Checking a JSON object against a model: every problem at once, in the shape of H-3, with no text echoed."""

from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from corporation.envelope import EnvelopeRefused, Problem

Model = TypeVar("Model", bound=BaseModel)


def checked(model: type[Model], document: Any) -> Model:
    """`document` as a `model`; raises EnvelopeRefused, which is answered with 422."""
    try:
        return model.model_validate(document)
    except ValidationError as error:
        raise EnvelopeRefused(
            [
                Problem(detail["type"], tuple(detail["loc"]), detail["msg"], _shown(detail["input"]))
                for detail in error.errors(include_url=False)
            ]
        ) from None


def _shown(value: Any) -> int | float | bool | None:
    return value if isinstance(value, int | float) else None
