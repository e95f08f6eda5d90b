"""The `rsu` command. Exit codes: 0 all well, 1 some races or partners failed, 2 usage or configuration."""

import sys

import click

from rsu_pipeline import private_files
from rsu_pipeline.commands import (
    alerts,
    backfill,
    db,
    health,
    keys,
    partners,
    privacy,
    race_day,
    report,
    sandbox,
    simulate,
    start_list,
    status,
    sync,
    up,
)
from rsu_pipeline.commands.common import FORESEEN, describe_database_error


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="rsu-pipeline")
def rsu() -> None:
    """Keeps a race-data hub's PostgreSQL equal to RunSignup.

    \b
    First steps:
      rsu up                       start everything; web UI at http://127.0.0.1:3000
      rsu partners add "Acme"      enter a partner's RunSignup key and secret
      rsu sync                     bring every partner up to date now
      rsu backfill --wait          read past editions too
      rsu status                   what is stored, and when it was last read

    Settings come from environment variables; README.md lists them.
    """


for command in (
    alerts.alerts,
    backfill.backfill,
    db.db,
    health.health,
    keys.secrets,
    partners.partners,
    privacy.privacy,
    race_day.race_day,
    report.report,
    sandbox.sandbox,
    simulate.simulate,
    start_list.start_list,
    status.status,
    sync.sync,
    up.demo,
    up.up,
):
    rsu.add_command(command)


def main() -> None:
    """Runs the command line; a foreseen failure is one sentence and exit code 2."""
    private_files.set_umask()
    try:
        rsu.main(standalone_mode=False)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        click.echo("Stopped.", err=True)
        sys.exit(130)
    except FORESEEN as error:
        click.echo(f"Error: {error}", err=True)
        sys.exit(2)
    except Exception as error:
        sentence = describe_database_error(error)
        if sentence is None:
            raise
        click.echo(f"Error: {sentence}", err=True)
        sys.exit(2)


if __name__ == "__main__":
    main()
