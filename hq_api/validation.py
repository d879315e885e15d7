"""Checking a JSON object against a model: every problem at once, in the shape of H-3, with no text echoed."""

import re
from typing import Any, Final, TypeVar

from pydantic import BaseModel, ValidationError

from corporation.envelope import EnvelopeRefused, Problem

UNSTORABLE: Final = re.compile("[\0\ud800-\udfff]")
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


def refuse_unstorable(document: Any, at: tuple[str | int, ...] = ()) -> None:
    """Raise EnvelopeRefused when a text inside `document` holds a NUL or half a surrogate pair: no column takes it."""
    if isinstance(document, str):
        if UNSTORABLE.search(document):
            raise EnvelopeRefused([Problem("value_error", at, "NUL and half surrogate pairs cannot be stored")])
    elif isinstance(document, dict):
        for key, value in document.items():
            refuse_unstorable(key, at)
            refuse_unstorable(value, (*at, str(key)))
    elif isinstance(document, list):
        for index, value in enumerate(document):
            refuse_unstorable(value, (*at, index))


def _shown(value: Any) -> int | float | bool | None:
    return value if isinstance(value, int | float) else None
