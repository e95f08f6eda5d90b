"""`rsu sandbox`: a local RunSignup with invented partners."""

import click


@click.command(context_settings={"ignore_unknown_options": True, "help_option_names": []}, add_help_option=False)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def sandbox(arguments: tuple[str, ...]) -> None:
    """Run a local RunSignup with invented partners. `rsu sandbox --help` shows its options."""
    from runsignup_sandbox.__main__ import main

    raise SystemExit(main(list(arguments)))
