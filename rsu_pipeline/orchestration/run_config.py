"""Which values a run's config may have. Everyone who can open the Dagster UI can write it, so it may choose work, not addresses.

Addresses, scopes and limits come from the installation (settings.py). Three barriers ensure that:

1. The schema. `fields_of` declares a config class with plain scalar types. Dagster's own types for `str`, `int` and `bool`
   resolve `{"env": "NAME"}` to the value of an environment variable, plain ones refuse it.
2. The submission. `LaneCoordinator` calls `check_run_config` before a run is queued, regardless of who launched it.
3. The start. `WarehouseResource`, which every job needs, calls it before the first step, so that runs which pass no
   coordinator are checked too.
"""

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, TypeVar

import dagster as dg
from pydantic import Field, ValidationError

from rsu_pipeline.display import MAX_NAME_CHARS, sanitize_for_display

MAX_DEPTH = 20
"""Nesting of run config. What this project declares is seven deep."""
MAX_VALUES = 100_000
"""Values in one run config. A thousand partners with thirty races each are 32,000."""
CONFIGURABLE_SECTION = "ops"

NO_CONFIG: dict[str, Any] = {}
"""`config_schema` of an op or asset that takes no config. Without it Dagster accepts, and stores, anything."""

Number = Annotated[int, Field(ge=1, le=2**31 - 1)]
"""An id of RunSignup that fits the columns which store it."""

PartitionKey = Annotated[str, Field(min_length=1, max_length=255, pattern=r"^[^\x00-\x1f\x7f]*$")]
"""A partner's partition key, or a text that is none."""

C = TypeVar("C", bound=dg.Config)


class RunRefused(Exception):
    """A run requests what no run may. The text is one sentence: what, where, and the next step."""


def fields_of(config_class: type[dg.Config]) -> dict[str, dg.Field]:
    """Return the `config_schema` of a config class whose fields never read the environment."""
    return {name: _plain_field(field) for name, field in config_class.to_fields_dict().items()}


def read_config(config_class: type[C], values: Mapping[str, Any]) -> C:
    """Return a run's config as an object of its class.

    Raises:
        dg.Failure: a value is out of range.
    """
    try:
        return config_class(**values)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False, include_context=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        raise dg.Failure(
            f"The config field {sanitize_for_display(place, MAX_NAME_CHARS)!r} cannot be used:"
            f" {sanitize_for_display(first['msg'], MAX_NAME_CHARS)}. Correct it and launch the run again.",
            allow_retries=False,
        ) from None


def check_run_config(run_config: Mapping[str, Any]) -> None:
    """Check that run config configures ops only and refers to no environment variable.

    Raises:
        RunRefused: it does not.
    """
    for count, (path, value) in enumerate(_walk(run_config)):
        if count > MAX_VALUES or len(path) > MAX_DEPTH:
            raise RunRefused(
                f"This run's config is too large: at most {MAX_VALUES} values, nested {MAX_DEPTH} deep. Split the run."
            )
        if path and path[-1] == "env":
            raise RunRefused(
                f'This run\'s config refers to an environment variable at {_shown(path)}. {{"env": ...}} is not allowed in'
                " run config: enter the value itself."
            )
        if path and path[0] != CONFIGURABLE_SECTION and not isinstance(value, Mapping | list):
            raise RunRefused(
                f"This run's config sets {_shown(path)}. Only {CONFIGURABLE_SECTION!r} can be configured for a run, and everything"
                " else is set for the installation: remove it."
            )


def _walk(value: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Yield every value with its path, parents first. Depth is limited here too, so that recursion ends."""
    yield path, value
    if len(path) > MAX_DEPTH:
        return
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _walk(inner, (*path, str(key)))
    elif isinstance(value, list | tuple):
        for number, inner in enumerate(value):
            yield from _walk(inner, (*path, str(number)))


def _shown(path: tuple[str, ...]) -> str:
    return sanitize_for_display(".".join(path), MAX_NAME_CHARS)


def _plain_field(field: dg.Field) -> dg.Field:
    plain = _plain_type(field.config_type)
    if field.default_provided:
        return dg.Field(plain, default_value=field.default_value, description=field.description)
    return dg.Field(plain, is_required=field.is_required, description=field.description)


def _plain_type(config_type: Any) -> Any:
    """Return a config type without the form `{"env": ...}`.

    Raises:
        TypeError: no config here uses this type.
    """
    if isinstance(config_type, dg.Noneable):
        return dg.Noneable(_plain_type(config_type.inner_type))
    if isinstance(config_type, dg.Array):
        return dg.Array(_plain_type(config_type.inner_type))
    if isinstance(config_type, dg.Map):
        return dg.Map(config_type.key_type, _plain_type(config_type.inner_type))  # type: ignore[no-untyped-call]
    if config_type in (dg.StringSource, dg.IntSource, dg.BoolSource):
        return config_type.scalar_type
    if config_type.given_name in ("String", "Int", "Float", "Bool"):
        return config_type
    raise TypeError(
        f"config of type {config_type.given_name or config_type.kind} is not known to be free of references"
    )
