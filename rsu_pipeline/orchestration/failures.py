"""From what went wrong in the sync to what Dagster shows: one sentence, no traceback for what is not our bug."""

from collections.abc import Iterator
from contextlib import contextmanager

import dagster as dg

from rsu_pipeline.errors import RsuError


@contextmanager
def plain_failures() -> Iterator[None]:
    """Turns a foreseen failure into a `dg.Failure` that is not retried."""
    try:
        yield
    except RsuError as error:
        raise dg.Failure(str(error), allow_retries=False) from None
