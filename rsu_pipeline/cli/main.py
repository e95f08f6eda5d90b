"""The `rsu` command. Exit codes: 0 success, 1 some races or partners failed, 2 usage or configuration error."""

import sys

import click

from rsu_pipeline import private_files
from rsu_pipeline.cli import first_output, output_files
from rsu_pipeline.cli.lazy_group import LazyCommand, LazyGroup
from rsu_pipeline.display import show_times_in
from rsu_pipeline.errors import RsuError
from rsu_pipeline.warehouse.database import describe_database_error

PACKAGE = "rsu_pipeline.cli"
COMMANDS = {
    "alerts": LazyCommand(f"{PACKAGE}.alerts_command:alerts", "Show open alerts and test their notifications."),
    "backfill": LazyCommand(f"{PACKAGE}.backfill_command:backfill", "Read the registrations of past editions."),
    "bibs": LazyCommand(f"{PACKAGE}.bibs_command:bibs", "Give bibs here, and send them to RunSignup."),
    "db": LazyCommand(f"{PACKAGE}.db_command:db", "Manage the hub's database: migrate, adopt, export, import."),
    "deliver": LazyCommand(f"{PACKAGE}.deliver_command:deliver", "Deliver webhooks and files of start lists."),
    "demo": LazyCommand(f"{PACKAGE}.up_command:demo", "Start everything with a local RunSignup and invented people."),
    "export": LazyCommand(f"{PACKAGE}.export_command:export", "Write participants, events or bibs to a file."),
    "health": LazyCommand(f"{PACKAGE}.health_command:health", "Check whether everything works."),
    "log": LazyCommand(f"{PACKAGE}.log_command:log", "Show what was read when, why, and what it changed."),
    "partners": LazyCommand(
        f"{PACKAGE}.partners_command:partners", "Manage timing partners and their RunSignup credentials."
    ),
    "privacy": LazyCommand(f"{PACKAGE}.privacy_command:privacy", "Remove personal data that is no longer kept."),
    "race-day": LazyCommand(
        f"{PACKAGE}.race_day_command:race_day", "Show whether each race near its start is in sync."
    ),
    "report": LazyCommand(f"{PACKAGE}.report_command:report", "Write a report of upcoming events to one HTML file."),
    "sandbox": LazyCommand(f"{PACKAGE}.sandbox_command:sandbox", "Run a local RunSignup with invented partners."),
    "schema": LazyCommand(f"{PACKAGE}.schema_command:schema", "Show fields that RunSignup sends and nobody knows."),
    "secrets": LazyCommand(f"{PACKAGE}.secrets_command:secrets", "Manage the key that encrypts partners' secrets."),
    "start-list": LazyCommand(f"{PACKAGE}.start_list_command:start_list", "Show the start list of an event."),
    "status": LazyCommand(f"{PACKAGE}.status_command:status", "Show what is stored, and when it was last read."),
    "sync": LazyCommand(f"{PACKAGE}.sync_command:sync", "Sync partners' events and registrations now."),
    "up": LazyCommand(f"{PACKAGE}.up_command:up", "Start the Dagster UI, the daemon and the database."),
    "webhooks": LazyCommand(f"{PACKAGE}.webhooks_command:webhooks", "Send changes to other programs."),
}


RENAMED_OPTIONS = {
    "--force-full-sync": "`rsu sync --full`",
    "--force-full": "`rsu sync --full`",
    "--timing-partner": "`rsu sync --partner ID`",
    "--timing-partner-id": "`rsu sync --partner ID`",
    "--partner-id": "`--partner ID`",
    "--test-mode": "`rsu sync --test`",
    "--days": "`rsu sync --incremental-days N`",
    "--race-id": "`rsu sync --race ID`",
}
"""Options of the older program, and what does the same here."""


def describe_renamed_option(option: str) -> str:
    """Return a sentence on what replaces an option of the older program, empty if it is none."""
    replacement = RENAMED_OPTIONS.get(option)
    return f" The older program's {option} is {replacement} here." if replacement else ""


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="rsu-pipeline")
def rsu() -> None:
    """Keep a race-data hub's PostgreSQL equal to RunSignup.

    \b
    First steps:
      rsu up                    start everything (UI: http://127.0.0.1:3000)
      rsu partners add "Acme"   add a partner with its RunSignup key and secret
      rsu sync                  sync every partner now
      rsu backfill --wait       read past editions too
      rsu status                show what is stored, and when it was last read

    Settings come from environment variables. docs/reference/settings.md lists them.
    """


rsu.lazy_commands = COMMANDS


def _with_hub_times(text: str) -> str:
    """Return an error with its times in RSU_TIMEZONE, or as it is if the settings themselves cannot be used."""
    from rsu_pipeline import installation

    try:
        return show_times_in(installation.current().settings.timezone, text)
    except RsuError:
        return text


def main() -> None:
    """Run the command line. An expected error prints one sentence and exits with code 2."""
    private_files.set_umask()
    output_files.open_closed_outputs()
    try:
        with first_output.announcing(sys.argv[1:]):
            rsu.main(standalone_mode=False)
    except click.NoSuchOption as error:
        click.UsageError(f"{error.format_message()}{describe_renamed_option(error.option_name)}", error.ctx).show()
        sys.exit(error.exit_code)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        click.echo("Stopped.", err=True)
        sys.exit(130)
    except RsuError as error:
        click.echo(f"Error: {_with_hub_times(str(error))}", err=True)
        sys.exit(2)
    except OSError as error:
        if not output_files.is_of_output(error):
            raise
        output_files.discard_output()
        if not isinstance(error, BrokenPipeError):
            click.echo(f"Error: The output could not be written: {error.strerror or type(error).__name__}.", err=True)
        sys.exit(1)
    except Exception as error:
        sentence = describe_database_error(error)
        if sentence is None:
            raise
        click.echo(f"Error: {sentence}", err=True)
        sys.exit(2)


if __name__ == "__main__":
    main()
