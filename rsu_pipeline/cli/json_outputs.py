"""Name the type of what each command prints with `--json`, and take its declared fields from a value.

docs/reference/json.md is generated from these types. A field that is not declared is not printed, so a column or an attribute
more is no promise.
"""

from types import NoneType
from typing import Any, get_args, get_origin, get_type_hints, is_typeddict

from rsu_pipeline.cli.json_types import (
    AdoptionOutput,
    BackfillOutput,
    DriftingField,
    HealthOutput,
    ImportOutput,
    LoggedSync,
    OpenAlert,
    PartnerListing,
    PartnerStatus,
    SyncOutput,
    WebhookListing,
)
from rsu_pipeline.cli.race_json_types import (
    BibChange,
    BibPushOutput,
    EntrantWithoutBib,
    LocalBibOutput,
    PushEventListing,
    RaceRow,
    StartListFigures,
    StartListOutput,
)

OUTPUTS: dict[str, Any] = {
    "alerts list": list[OpenAlert],
    "backfill": BackfillOutput,
    "bibs give": LocalBibOutput,
    "bibs list": list[PushEventListing],
    "bibs push": BibPushOutput,
    "bibs take": LocalBibOutput,
    "db adopt": AdoptionOutput,
    "health": HealthOutput,
    "partners import": ImportOutput,
    "log": list[LoggedSync],
    "partners list": list[PartnerListing],
    "race-day": list[RaceRow],
    "race-day --changes": list[BibChange],
    "race-day --missing": list[EntrantWithoutBib],
    "schema": list[DriftingField],
    "start-list": list[StartListFigures],
    "start-list EVENT": StartListOutput,
    "status": list[PartnerStatus],
    "sync": SyncOutput,
    "webhooks list": list[WebhookListing],
}
"""The type of what each command prints with `--json`."""


def select_declared(shape: Any, value: Any) -> Any:
    """Return the declared fields of a value: the items of a mapping or the attributes of an object, and of what is in it.

    Raises:
        KeyError, AttributeError: a field that is required is missing.
    """
    if value is None:
        return None
    arguments = [one for one in get_args(shape) if one is not NoneType]
    if get_origin(shape) is list:
        return [select_declared(arguments[0], item) for item in value]
    if NoneType in get_args(shape) and len(arguments) == 1:
        return select_declared(arguments[0], value)
    if not is_typeddict(shape):
        return value
    fields = value if isinstance(value, dict) else None
    return {
        name: select_declared(declared, getattr(value, name) if fields is None else fields[name])
        for name, declared in get_type_hints(shape).items()
        if fields is None or name in fields or name in shape.__required_keys__
    }
