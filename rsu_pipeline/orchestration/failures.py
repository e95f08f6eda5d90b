"""Turn expected errors into what Dagster shows: one sentence, and a traceback only for bugs."""

from collections.abc import Iterator
from contextlib import contextmanager

import dagster as dg

from rsu_pipeline.errors import RsuError


@contextmanager
def expected_errors_as_failures() -> Iterator[None]:
    """Raise a `dg.Failure` that is not retried in place of an expected error."""
    try:
        yield
    except RsuError as error:
        raise dg.Failure(str(error), allow_retries=False) from None
