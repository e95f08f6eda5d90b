"""`rsu partners check`: whether the credentials of partners work at RunSignup."""

import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

from rsu_pipeline import cancellation, installation
from rsu_pipeline.cli.common import choose_partners
from rsu_pipeline.display import counted, make_printable
from rsu_pipeline.errors import RsuError
from rsu_pipeline.warehouse import partner_access

if TYPE_CHECKING:
    from rsu_pipeline.sync.session import PartnerSession


@dataclass(frozen=True)
class CheckResult:
    """The outcome of checking one partner, in a sentence."""

    works: bool
    sentence: str


@click.command()
@click.argument("partner", required=False)
@click.option(
    "--all", "check_all", is_flag=True, help="Check every active partner, side by side within the call budget."
)
def check(partner: str | None, check_all: bool) -> None:
    """Verify at RunSignup that PARTNER (id or key) can read one of its races.

    Exit code 1 if a credential does not work or could not be checked.
    """
    if bool(partner) == check_all:
        raise click.UsageError("Give either a PARTNER or --all.")
    if partner:
        check_one(partner)
    else:
        _check_all()


def check_one(name: str) -> None:
    """Check a partner and report it. The process ends with exit code 1 if its credential does not work."""
    result = _verify(name, log=True)
    click.echo(result.sentence, err=not result.works)
    if not result.works:
        sys.exit(1)


def _check_all() -> None:
    names = [str(partner.key) for partner in choose_partners(())]
    failed = 0
    for name, result in _check_side_by_side(names):
        failed += not result.works
        click.echo(make_printable(f"{name}: {result.sentence}"))
    click.echo(f"{counted(len(names), 'partner')} checked: {len(names) - failed} work, {failed} do not.")
    if failed:
        sys.exit(1)


def _check_side_by_side(names: Sequence[str]) -> Iterator[tuple[str, CheckResult]]:
    """Yield each partner with its result, in order. The call ledger limits the calls of all."""
    from rsu_pipeline.sync.session import limit_concurrent_partners

    def verify(name: str) -> CheckResult:
        try:
            return _verify(name, log=False)
        except RsuError as error:
            return CheckResult(False, f"Could not be checked: {error}")

    with cancellation.scope():
        pool = ThreadPoolExecutor(limit_concurrent_partners(installation.current().settings.budget))
        try:
            yield from zip(names, pool.map(verify, names), strict=True)
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


@contextmanager
def open_checked_session(name: str, log: Callable[[str], None] = click.echo) -> Iterator["PartnerSession"]:
    """Open a partner's session for a check of its credential."""
    # The modules that call RunSignup take long to import, and only this function needs them.
    from rsu_pipeline.sync.session import open_partner_session

    here = installation.current()
    with open_partner_session(
        here.migrated_database_url,
        here.secret_box,
        here.settings,
        name,
        lane="new_partner",
        run_id="check",
        log=log,
        retry_rejected=True,
    ) as session:
        yield session


def _verify(name: str, *, log: bool) -> CheckResult:
    from rsu_pipeline.sync import access

    with open_checked_session(name, click.echo if log else lambda line: None) as session:
        verdict = access.check_access(session)
        found = partner_access.read_access(session.conn, session.now(), session.partner_id)[session.partner_id]
    if verdict is None and found.known:
        # RunSignup accepts the key, or it would list public races.
        lost = f"RunSignup lists no race any more, had {found.known}. The key is fine. {partner_access.ASK}"
        return CheckResult(False, lost)
    if verdict is None:
        return CheckResult(
            True,
            "RunSignup accepts the key and lists no race with an event for it yet. Ask the race's director to give the partner"
            " access. Its races are synced once they are listed.",
        )
    if verdict is access.Verdict.WORKS:
        works = "The credential works: one of its races was read."
        return CheckResult(False, f"{works} It {found.sentence}") if found.has_lost else CheckResult(True, works)
    if verdict is access.Verdict.UNDECIDED:
        return CheckResult(
            False,
            "The race that was read denies access, and no other race shows whether the cause is the race or the credential."
            " Check the key, or ask the race's director for access.",
        )
    return CheckResult(
        False, "RunSignup rejects the credential. Check key and secret, and enter them with `rsu partners add`."
    )
