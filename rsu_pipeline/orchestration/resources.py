"""Typed doors to the plain objects that do the work. Importing touches neither network nor disk."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import dagster as dg
from psycopg2.extensions import connection as Connection
from pydantic import Field

from rsu_pipeline import installation
from rsu_pipeline.sync import desk
from rsu_pipeline.warehouse import budget, database


class WarehouseResource(dg.ConfigurableResource[Any]):
    """The hub's PostgreSQL."""

    url: str = Field(
        default="",
        description="libpq URL of the hub's database; empty: RSU_DATABASE_URL, else the embedded PostgreSQL.",
    )

    def address(self) -> str:
        """libpq URL, with the schema up to date. Raises DatabaseError."""
        return self.url or installation.current().migrated_database_url

    @contextmanager
    def connect(self, purpose: str) -> Iterator[Connection]:
        """A session for the length of a block; the caller commits."""
        with database.session(self.address(), purpose=purpose) as conn:
            yield conn


class RunSignupResource(dg.ConfigurableResource[Any]):
    """RunSignup, called with a partner's credential inside the call budget."""

    base_url: str = Field(default="", description="Base URL of the API; empty: RSU_API_BASE_URL.")

    @contextmanager
    def desk(
        self, warehouse: WarehouseResource, partner: str, *, lane: budget.Lane, run_id: str, say: Callable[[str], None]
    ) -> Iterator[desk.Desk]:
        """A partner's desk, holding the partner's lock for the length of a block; see sync.desk.open_desk."""
        here = installation.current()
        settings = here.settings
        if self.base_url:
            settings = replace(settings, api=replace(settings.api, base_url=self.base_url))
        with desk.open_desk(
            warehouse.address(), here.sealer, settings, partner, lane=lane, run_id=run_id, say=say
        ) as opened:
            yield opened
