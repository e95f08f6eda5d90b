"""The executor, console logger and I/O manager, without the run config that Dagster would accept for them."""

import dagster as dg

from rsu_pipeline.orchestration.run_config import NO_CONFIG

EXECUTOR = dg.in_process_executor.configured(lambda _: {}, name="in_process", config_schema=NO_CONFIG)
"""Steps run in the process of the run."""

LOGGERS = {
    "console": dg.colored_console_logger.configured(lambda _: {}, config_schema=NO_CONFIG),
    # For commands, which print their own result. The log of the run is stored all the same.
    "quiet": dg.colored_console_logger.configured(lambda _: {"log_level": "CRITICAL"}, config_schema=NO_CONFIG),
}


class NoStoredValues(dg.ConfigurableIOManager):
    """An I/O manager that stores nothing, because assets write to the hub's tables.

    Dagster's default has a folder that a run may choose.
    """

    def handle_output(self, context: dg.OutputContext, obj: object) -> None:
        if obj is not None:
            raise TypeError(
                f"{context.name} of {context.step_key} has a value, but nothing here is passed between steps"
            )

    def load_input(self, context: dg.InputContext) -> None:
        raise TypeError(f"{context.name} is to be loaded, but nothing here is passed between steps")
