"""The parameters of a component, read from its signature: they are checked, completed and described, and used to make the component."""

import inspect
import warnings
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, get_type_hints

from pydantic import BaseModel, ConfigDict, PydanticUserError, ValidationError, create_model

from agmbench.errors import AgmbenchError, allowed, describe
from agmbench.jobs import Component
from agmbench.registry import Entry, Registry


def resolved(registry: Registry, kind: str, component: Component) -> Component:
    """The component with all its parameters, checked against the types in its signature."""
    entry = registry.get(kind, component.name)
    return Component(name=entry.name, params=check_parameters(entry, component.params))


def check_parameters(entry: Entry, given: Mapping[str, Any]) -> dict[str, Any]:
    """All parameters of an entry as JSON values: the signature's defaults, overridden by the entry's, overridden by those given."""
    schema = parameters(entry)
    for name in (*entry.params, *given):
        if name not in schema.model_fields:
            raise AgmbenchError(f"{entry} has no parameter '{name}': {allowed(name, schema.model_fields)}")
    try:
        return schema.model_validate({**entry.params, **given}).model_dump(mode="json")
    except ValidationError as error:
        first = error.errors()[0]
        name = str(first["loc"][0])
        if first["type"] == "missing":
            raise AgmbenchError(f"{entry} needs a value: parameter '{name}' of {entry} has no default") from error
        raise AgmbenchError(
            f"parameter '{name}' of {entry} is {first['input']!r}: should be {annotation(schema, name)}"
        ) from error


def parameters(entry: Entry) -> type[BaseModel]:
    """The keyword-only parameters of an entry's target, as a pydantic model."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # pydantic warns if a parameter has the name of one of its methods
            return _schema(str(entry), entry.load())
    except (NameError, TypeError, PydanticUserError) as error:
        raise AgmbenchError(
            f"{entry}: the types of the parameters of '{entry.target}' cannot be read ({describe(error)}); see {entry.place}"
        ) from error


@cache
def _schema(title: str, target: Any) -> type[BaseModel]:
    """The model of a target's parameters. It is cached, because a plan of hundreds of jobs needs the same few models."""
    function = target.__init__ if inspect.isclass(target) else target
    hints = get_type_hints(function, include_extras=True)
    fields: dict[str, Any] = {
        parameter.name: (hints.get(parameter.name, Any), ... if parameter.default is parameter.empty else parameter.default)
        for parameter in inspect.signature(function).parameters.values()
        if parameter.kind is parameter.KEYWORD_ONLY
    }
    config = ConfigDict(extra="forbid", allow_inf_nan=False, protected_namespaces=())
    return create_model(title, __config__=config, **fields)


def annotation(schema: type[BaseModel], name: str) -> str:
    """A parameter's type in words for users: `a number >= 0`, `one of exact, shared`, `a whole number > 0 or null`."""
    return _words(schema.model_json_schema()["properties"][name])


_BOUNDS = {"minimum": ">=", "exclusiveMinimum": ">", "maximum": "<=", "exclusiveMaximum": "<"}
_TYPES = {"number": "a number", "integer": "a whole number", "boolean": "true or false", "string": "a text", "null": "null"}
_TYPES |= {"object": "a mapping", "array": "a list"}


def _words(schema: Mapping[str, Any]) -> str:
    if "anyOf" in schema:
        return " or ".join(_words(option) for option in schema["anyOf"])
    if "enum" in schema:
        return f"one of {', '.join(map(str, schema['enum']))}"
    bounds = [f"{sign} {schema[key]}" for key, sign in _BOUNDS.items() if key in schema]
    return " ".join([_TYPES.get(schema.get("type", ""), "anything"), " and ".join(bounds)]).strip()


def made(registry: Registry, kind: str, component: Component, *known: Any, of: str = "") -> Any:
    """Make a component: call its target with `known` (what the job provides) and with its parameters. `of` is added to its name in
    errors, to say what it is for."""
    entry = registry.get(kind, component.name)
    make: Callable[..., Any] = entry.load()
    try:
        return make(*known, **component.params)
    except ValueError as error:  # `Unsuitable` is one
        raise AgmbenchError(f"{entry}{of}: {error}") from error
    except Exception as error:  # a stranger's component may raise anything
        raise AgmbenchError(f"{entry}{of} cannot be made ({describe(error)}); it is named in {entry.place}") from error
