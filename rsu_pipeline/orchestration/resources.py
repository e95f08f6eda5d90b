"""Dagster resources for the warehouse and RunSignup. Importing touches neither network nor disk."""

from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from typing import Any

import dagster as dg
from psycopg2.extensions import connection as Connection

from rsu_pipeline import cancellation, installation
from rsu_pipeline.errors import RsuError
from rsu_pipeline.orchestration.lanes import read_lane
from rsu_pipeline.orchestration.partitions import read_partition
from rsu_pipeline.orchestration.run_config import check_run_config
from rsu_pipeline.settings import Settings
from rsu_pipeline.sync.session import PartnerSession, open_partner_session
from rsu_pipeline.warehouse import call_ledger, database, sessions


class WarehouseResource(dg.ConfigurableResource[Any]):
    """The hub's PostgreSQL. Its address is the installation's, and no run can configure it."""

    @contextmanager
    def yield_for_execution(self, context: dg.InitResourceContext) -> Generator["WarehouseResource", None, None]:
        """Keep a session open from the run's first step to its last, which shows that the run is alive (recovery).

        The run config is checked before that once more, because not every run passes the run coordinator. A signal to the
        process ends its calls and statements.

        Raises:
            RunRefused: the run config sets what no run may set.
        """
        with cancellation.scope(), ExitStack() as stack:
            if context.run is not None:
                check_run_config(context.run.run_config)
                with suppress(RsuError):  # the first step reports the error in a sentence
                    stack.enter_context(sessions.application_name_of_run(self.address(), context.run.run_id))
            yield self

    def address(self) -> str:
        """Return the libpq URL of the database, with the schema up to date.

        Raises:
            DatabaseError: the database cannot be reached or migrated.
        """
        return installation.current().migrated_database_url

    @contextmanager
    def connect(self, purpose: str) -> Iterator[Connection]:
        """Open a session for the length of a block. The caller commits."""
        with database.session(self.address(), purpose=purpose) as conn:
            yield conn


class RunSignupResource(dg.ConfigurableResource[Any]):
    """RunSignup, called with a partner's credential within the call budget. No run can configure the address or the limits."""

    def settings(self) -> Settings:
        """Return the installation's settings."""
        return installation.current().settings

    @contextmanager
    def partner_session(
        self,
        warehouse: WarehouseResource,
        partner: str,
        *,
        lane: call_ledger.Lane,
        run_id: str,
        log: Callable[[str], None],
    ) -> Iterator[PartnerSession]:
        """Open a partner's session for the length of a block. See `open_partner_session`."""
        secret_box = installation.current().secret_box
        with open_partner_session(
            warehouse.address(),
            secret_box,
            self.settings(),
            partner,
            lane=lane,
            run_id=run_id,
            log=log,
        ) as opened:
            yield opened

    def partner_session_of_several(
        self, warehouse: WarehouseResource, context: dg.OpExecutionContext | dg.AssetExecutionContext, key: str
    ) -> AbstractContextManager[PartnerSession]:
        """Open the session of one of a run's partners, in the run's lane and under its id. Its log lines begin with the key."""
        return self.partner_session(
            warehouse,
            key,
            lane=read_lane(context),
            run_id=context.run.run_id,
            log=lambda line: context.log.info(f"{key}: {line}"),
        )

    def partner_session_of_run(
        self, warehouse: WarehouseResource, context: dg.AssetExecutionContext
    ) -> AbstractContextManager[PartnerSession]:
        """Open the session of the partner whose partition a run materializes, in the run's lane and under its id."""
        return self.partner_session(
            warehouse,
            read_partition(context),
            lane=read_lane(context),
            run_id=context.run.run_id,
            log=context.log.info,
        )
