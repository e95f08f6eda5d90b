"""Typed doors to the plain objects that do the work. Importing touches neither network nor disk."""

from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from typing import Any

import dagster as dg
from psycopg2.extensions import connection as Connection

from rsu_pipeline import cancellation, installation
from rsu_pipeline.errors import RsuError
from rsu_pipeline.orchestration.lanes import lane_of
from rsu_pipeline.orchestration.partitions import partition_of
from rsu_pipeline.orchestration.run_config import check_run_config
from rsu_pipeline.settings import Settings
from rsu_pipeline.sync.desk import Desk, open_desk
from rsu_pipeline.warehouse import budget, database, sessions


class WarehouseResource(dg.ConfigurableResource[Any]):
    """The hub's PostgreSQL. Its address is the installation's: no run can configure it."""

    @contextmanager
    def yield_for_execution(self, context: dg.InitResourceContext) -> Generator["WarehouseResource", None, None]:
        """A run keeps a session open from its first step to its last, by which it is known to be alive (recovery).

        Its config is checked before that, once more: not every run passes the run coordinator. Raises RunRefused. A signal to
        the process ends its calls and statements.
        """
        with cancellation.scope(), ExitStack() as stack:
            if context.run is not None:
                check_run_config(context.run.run_config)
                with suppress(RsuError):  # the first step says in a sentence what is wrong
                    stack.enter_context(sessions.sign_of_life(self.address(), context.run.run_id))
            yield self

    def address(self) -> str:
        """libpq URL, with the schema up to date. Raises DatabaseError."""
        return installation.current().migrated_database_url

    @contextmanager
    def connect(self, purpose: str) -> Iterator[Connection]:
        """A session for the length of a block; the caller commits."""
        with database.session(self.address(), purpose=purpose) as conn:
            yield conn


class RunSignupResource(dg.ConfigurableResource[Any]):
    """RunSignup, called with a partner's credential inside the call budget. No run can configure where or how."""

    def settings(self) -> Settings:
        """The installation's settings."""
        return installation.current().settings

    @contextmanager
    def desk(
        self,
        warehouse: WarehouseResource,
        partner: str,
        *,
        lane: budget.Lane,
        run_id: str,
        say: Callable[[str], None],
    ) -> Iterator[Desk]:
        """A partner's desk for the length of a block; see sync.desk.open_desk."""
        sealer = installation.current().sealer
        with open_desk(
            warehouse.address(),
            sealer,
            self.settings(),
            partner,
            lane=lane,
            run_id=run_id,
            say=say,
        ) as opened:
            yield opened

    def desk_of_run(
        self, warehouse: WarehouseResource, context: dg.AssetExecutionContext
    ) -> AbstractContextManager[Desk]:
        """The desk of the partner whose partition a run makes, in the run's lane and under its number."""
        return self.desk(
            warehouse,
            partition_of(context),
            lane=lane_of(context),
            run_id=context.run.run_id,
            say=context.log.info,
        )
