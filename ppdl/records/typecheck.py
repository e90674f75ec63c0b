"""Check the arguments of a component against the types and bounds that its constructor declares."""

import functools
import inspect
import typing
from collections.abc import Mapping
from typing import Annotated, Any

from annotated_types import Ge, Gt, Lt, MinLen

from ppdl.errors import ConfigError

Whole = Annotated[int, Ge(0)]
Count = Annotated[int, Ge(1)]
Positive = Annotated[float, Gt(0)]
NotNegative = Annotated[float, Ge(0)]
Fraction = Annotated[float, Ge(0), Lt(1)]
Share = Annotated[float, Gt(0), Lt(1)]
Text = Annotated[str, MinLen(1)]

_SHOWN = 100  # characters of a wrong value


_WORDS = {
    "Input should": "must",
    "should": "must",
    " after validation": "",
    "a valid integer": "an integer",
    " valid": "",
    "greater than or equal to": ">=",
    "less than or equal to": "<=",
    "greater than": ">",
    "less than": "<",
}


@functools.cache
def _model(cls: type) -> Any:
    import pydantic

    hints = typing.get_type_hints(cls, include_extras=True)
    fields: dict[str, Any] = {name: (hints.get(name, Any), None) for name in inspect.signature(cls).parameters}
    settings = pydantic.ConfigDict(strict=True, allow_inf_nan=False, arbitrary_types_allowed=True, protected_namespaces=())
    return pydantic.create_model(cls.__name__, __config__=settings, **fields)


def check_types(cls: type, arguments: Mapping[str, Any], where: str) -> None:
    """Refuse arguments outside of what `cls` declares: no text for a number, no true for 1, no .nan and no .inf, and none out of bounds.

    Args:
        where: place of the arguments in the configuration.

    Raises:
        ConfigError: names the value, the type that it must have, and what it is.
    """
    import pydantic

    try:
        _model(cls).model_validate(dict(arguments))
    except pydantic.ValidationError as error:
        first = error.errors(include_url=False)[0]
    else:
        return
    name, *inner = first["loc"]
    place, value = f"{where}.{name}", arguments[str(name)]
    for part in inner:  # what is no item names a branch of a union
        items = value if isinstance(value, Mapping) else dict(enumerate(value)) if isinstance(value, list | tuple) else {}
        if part in items:
            place, value = f"{place}.{part}", items[part]
    rule = first["msg"]
    for pydantic_says, we_say in _WORDS.items():
        rule = rule.replace(pydantic_says, we_say)
    if first["type"] in ("dataclass_exact_type", "dataclass_type", "is_instance_of") and isinstance(value, Mapping):
        raise ConfigError(f"{place} needs `_target_: package.module.Class` among its keys, got {', '.join(map(str, value))}")
    shown = repr(list(value) if isinstance(value, tuple) else value)  # as the configuration has it: Hydra's lists became tuples
    raise ConfigError(f"{place}: {rule}, got {shown if len(shown) <= _SHOWN else shown[:_SHOWN] + '...'}")
