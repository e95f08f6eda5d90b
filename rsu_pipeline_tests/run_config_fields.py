"""The fields that the config of a run can have, as the definitions declare them."""

from collections.abc import Iterator
from typing import Any

from rsu_pipeline.definitions import defs

Path = tuple[str, ...]


def fields(config_type: Any, path: Path = ()) -> Iterator[Path]:
    """Yield the path of every value that a config type takes. `[]` and `{}` stand for an element."""
    if hasattr(config_type, "fields"):
        for name, field in config_type.fields.items():
            yield from fields(field.config_type, (*path, name))
    elif config_type.kind.name == "NONEABLE":
        yield from fields(config_type.inner_type, path)
    elif config_type.kind.name in ("ARRAY", "MAP"):
        yield from fields(config_type.inner_type, (*path, "[]" if config_type.kind.name == "ARRAY" else "{}"))
    else:
        yield path


def fields_of_jobs() -> dict[str, list[Path]]:
    """Return every field by job, Dagster's own job of materializations included."""
    return {
        job.name: list(dict.fromkeys(fields(job.run_config_schema.config_type)))
        for job in defs().get_repository_def().get_all_jobs()
    }
