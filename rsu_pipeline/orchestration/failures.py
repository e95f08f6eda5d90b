"""From what went wrong in the sync to what Dagster shows: one sentence, no traceback for what is not our bug."""

from collections.abc import Iterator
from contextlib import contextmanager

import dagster as dg

from rsu_pipeline.runsignup.errors import ApiError
from rsu_pipeline.settings import SettingsError
from rsu_pipeline.sync.desk import CredentialRejected
from rsu_pipeline.warehouse.credentials import PartnerError
from rsu_pipeline.warehouse.database import DatabaseError, PartnerBusy
from rsu_pipeline.warehouse.embedded import EmbeddedError
from rsu_pipeline.warehouse.sealing import SecretKeyError

FORESEEN = (
    ApiError,
    CredentialRejected,
    DatabaseError,
    EmbeddedError,
    PartnerBusy,
    PartnerError,
    SecretKeyError,
    SettingsError,
)
"""Failures with a sentence for the operator; anything else is a bug of ours and keeps its traceback."""


@contextmanager
def plain_failures() -> Iterator[None]:
    """Turns a foreseen failure into a `dg.Failure` that is not retried."""
    try:
        yield
    except FORESEEN as error:
        raise dg.Failure(str(error), allow_retries=False) from None
