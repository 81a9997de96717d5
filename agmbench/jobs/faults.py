"""Errors of pydantic in one line."""

from collections.abc import Iterable
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from agmbench.errors import allowed


def fault(error: ValidationError, model: type[BaseModel], noun: str) -> str:
    """The first error of pydantic in one line. An unknown key is reported before a missing one, because it may be a typo of that."""
    first = min(error.errors(), key=lambda one: one["type"] != "extra_forbidden")
    where = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        return f"unknown {noun} '{where}': {allowed(str(first['loc'][-1]), _siblings(model, first['loc']))}"
    if first["type"] == "missing":
        return f"needs '{where}'"
    message = first["msg"].removeprefix("Value error, ").replace("valid tuple", "list").replace("valid dictionary", "mapping")
    return f"'{where}' is {first['input']!r}: {message[0].lower()}{message[1:]}"


def _siblings(model: Any, location: tuple[int | str, ...]) -> Iterable[str]:
    for part in location[:-1]:
        if hasattr(model, "model_fields"):
            field = model.model_fields.get(part)
            model = field.annotation if field is not None else None
        else:  # one item of a mapping or a list
            model = next((item for item in get_args(model) if hasattr(item, "model_fields")), None)
    return model.model_fields if hasattr(model, "model_fields") else ()
