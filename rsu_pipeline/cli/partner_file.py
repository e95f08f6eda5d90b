"""`rsu partners import`: partners from a CSV file, all or none."""

import csv
import io
import os
import stat
import sys
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import click

from rsu_pipeline import installation
from rsu_pipeline.cli import first_output
from rsu_pipeline.cli.common import hub_connection, show_json
from rsu_pipeline.display import MAX_NAME_CHARS, counted, make_printable, sanitize_for_display
from rsu_pipeline.errors import RsuError
from rsu_pipeline.warehouse.credentials import PartnerError
from rsu_pipeline.warehouse.partner_import import Outcome, PartnerRow, RowReport, enter_partners

COLUMNS = ("name", "key", "secret", "key_env", "secret_env", "scheme", "shared_key")
SCHEMES = ("api_key", "rsu_api_key", "sp_api_key")
YES_NO = {"": False, "no": False, "false": False, "0": False, "yes": True, "true": True, "1": True}
MAX_FILE_BYTES = 10_000_000


class PartnerFileError(RsuError):
    """A file of partners cannot be used. The text is one sentence: what is wrong, where, and the next step."""


@click.command("import")
@click.argument("file", metavar="FILE")
@click.option(
    "--secrets", metavar="FILE", help="A second CSV file with the columns name, key, secret. - is standard input."
)
@click.option("--dry-run", is_flag=True, help="Try every row, report it, and change nothing.")
@click.option("--json", "as_json", is_flag=True, help="Output JSON.")
def import_(file: str, secrets: str | None, dry_run: bool, as_json: bool) -> None:
    """Enter the partners of a CSV FILE, all or none. - is standard input.

    \b
    Columns (the first line names them, in any order):
      name        the partner's name. A partner of exactly this name gets the new key and secret.
      key         its RunSignup API key
      secret      its secret
      key_env     instead of key: the environment variable that has it
      secret_env  instead of secret: the environment variable that has it
      scheme      api_key (default), rsu_api_key or sp_api_key
      shared_key  yes, if another partner has the same API key on purpose

    A file with keys or secrets must be readable only by you (chmod 600). Rows with the present key and secret are left alone,
    so that a file can be imported again. Exit code 2 if a row is refused. Nothing is entered then.
    """
    if file == secrets == "-":
        raise click.UsageError("FILE and --secrets cannot both be standard input.")
    with hub_connection("partners import") as conn:
        rows, unusable = parse_partners(_read(file), _read(secrets) if secrets else None, os.environ)
        # A trial first: an import that is refused uses up no number of a partner.
        reports = enter_partners(conn, installation.current().secret_box, rows, is_trial=True) + unusable
        conn.rollback()
        is_entered = not dry_run and not _has_refusal(reports)
        if is_entered:
            reports = enter_partners(conn, installation.current().secret_box, rows)
            is_entered = not _has_refusal(reports)
        if is_entered:
            conn.commit()
    _report(sorted(reports, key=lambda report: report.line), is_entered=is_entered, as_json=as_json)
    sys.exit(2 if _has_refusal(reports) else 0)


def _has_refusal(reports: Sequence[RowReport]) -> bool:
    return any(report.outcome is Outcome.REFUSED for report in reports)


def _report(reports: list[RowReport], *, is_entered: bool, as_json: bool) -> None:
    if as_json:
        rows = [
            vars(report) | {"outcome": report.outcome.value, "partner": report.partner_key if is_entered else None}
            for report in reports
        ]
        show_json("partners import", {"entered": is_entered, "rows": rows})
        return
    for report in reports:
        # A key that was not committed means nothing.
        name = report.partner_key if is_entered and report.partner_key else report.name
        detail = f": {report.reason}" if report.reason else ""
        click.echo(make_printable(f"line {report.line}: {name}: {report.outcome.value}{detail}"))
    counts = Counter(report.outcome for report in reports)
    words = ", ".join(f"{counts[outcome]} {outcome.value}" for outcome in Outcome)
    if is_entered:
        more = " Their partitions appear in Dagster within a minute." if counts[Outcome.ADDED] else ""
        click.echo(f"{counted(len(reports), 'partner')}: {words}.{more}")
    else:
        click.echo(
            f"Nothing was entered. {counted(len(reports), 'partner')}: {words}.", err=bool(counts[Outcome.REFUSED])
        )


@dataclass(frozen=True)
class _File:
    """A CSV file as it was read. `is_private` is false if others can read it."""

    name: str
    data: bytes = field(repr=False)
    is_private: bool


def _read(path: str) -> _File:
    """Read a file, or standard input for -.

    Raises:
        PartnerFileError: it cannot be read.
    """
    if path == "-":
        with first_output.waiting_for_input():
            return _File("standard input", sys.stdin.buffer.read(MAX_FILE_BYTES + 1), True)
    name = sanitize_for_display(path, MAX_NAME_CHARS)
    try:
        with Path(path).open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            # A pipe, such as bash makes for <(...), is read by this process only.
            is_private = stat.S_ISFIFO(mode) or not mode & 0o077
            return _File(name, file.read(MAX_FILE_BYTES + 1), is_private)
    except OSError as error:
        raise PartnerFileError(f"The file {name} cannot be read: {error.strerror}.") from None


def parse_partners(
    file: _File, secrets: _File | None, environment: Mapping[str, str]
) -> tuple[list[PartnerRow], list[RowReport]]:
    """Return the rows of a file, with keys and secrets from it, from the second file, or from environment variables.

    Rows that cannot be used are reported as refused. No message contains a key or a secret.

    Raises:
        PartnerFileError: a file has no rows or no columns, or one with secrets can be read by others.
    """
    found = _rows(file, COLUMNS)
    if not found:
        raise PartnerFileError(f"{file.name} has no partners. Each line after the first is one.")
    rows, refused = [], []
    extra = _by_name(secrets, {cells["name"] for _, cells in found}) if secrets else {}
    for line, cells in found:
        try:
            rows.append(_row(line, cells, extra.get(cells["name"], {}), environment))
        except PartnerError as error:
            refused.append(RowReport(line, cells["name"], Outcome.REFUSED, reason=str(error)))
    return rows, refused


def _by_name(secrets: _File, names: Collection[str]) -> dict[str, dict[str, str]]:
    """Return the rows of the second file by name.

    Raises:
        PartnerFileError: a name is not in the first file, or is there twice.
    """
    found: dict[str, dict[str, str]] = {}
    for line, cells in _rows(secrets, COLUMNS[:3]):
        name = cells["name"]
        if name not in names or name in found:
            problem = "is in it twice" if name in found else "is not in FILE"
            raise PartnerFileError(
                f"{secrets.name}, line {line}: {sanitize_for_display(name, MAX_NAME_CHARS)!r} {problem}."
            )
        found[name] = cells
    return found


def _row(line: int, cells: Mapping[str, str], added: Mapping[str, str], environment: Mapping[str, str]) -> PartnerRow:
    """Return a row as a partner.

    Raises:
        PartnerError: a cell is missing or wrong.
    """
    name = cells["name"]
    if not name:
        raise PartnerError("The name is missing.")
    key, secret = (_value(what, cells, added, environment) for what in ("key", "secret"))
    for what, text in (("name", name), ("key", key), ("secret", secret)):
        if not text.replace("\xa0", " ").isprintable():
            raise PartnerError(f"The {what} has characters that do not print.")
    scheme = cells.get("scheme", "") or SCHEMES[0]
    if scheme not in SCHEMES:
        raise PartnerError(f"The scheme must be {', '.join(SCHEMES[:-1])} or {SCHEMES[-1]}.")
    shared = YES_NO.get(cells.get("shared_key", "").lower())
    if shared is None:
        raise PartnerError("The column shared_key must be yes or no.")
    return PartnerRow(line, name, key, secret, scheme, shared)


def _value(what: str, cells: Mapping[str, str], added: Mapping[str, str], environment: Mapping[str, str]) -> str:
    """Return the key or the secret of a row from the one place that has it."""
    variable = cells.get(f"{what}_env", "")
    given = [text for text in (cells.get(what, ""), added.get(what, ""), variable) if text]
    if len(given) > 1:
        raise PartnerError(f"The {what} is given in {len(given)} places. Leave one.")
    if not given:
        raise PartnerError(f"The {what} is missing. Enter it in the column {what} or {what}_env.")
    if not variable:
        return given[0]
    value = environment.get(variable, "").strip()
    if not value:
        shown = sanitize_for_display(variable, MAX_NAME_CHARS)
        raise PartnerError(f"The environment variable {shown!r} of {what}_env is not set.")
    return value


def _rows(file: _File, columns: tuple[str, ...]) -> list[tuple[int, dict[str, str]]]:
    """Return the cells of each line that is not blank, with its number.

    Raises:
        PartnerFileError: it is no CSV file with these columns, or others can read the secrets in it.
    """
    if len(file.data) > MAX_FILE_BYTES:
        raise PartnerFileError(f"{file.name} has more than {MAX_FILE_BYTES // 1_000_000} MB. Split it.")
    try:
        text = file.data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise PartnerFileError(f"{file.name} is not UTF-8. Save it as CSV UTF-8.") from None
    head = text.partition("\n")[0]
    delimiter = max(",;\t", key=head.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    rows: list[tuple[int, dict[str, str]]] = []
    names: list[str] | None = None
    try:
        for cells in reader:
            line, cells = reader.line_num, [cell.strip() for cell in cells]
            if not any(cells):
                continue
            if names is None:
                names = _header(file, [cell.lower() for cell in cells], columns)
            elif len(cells) > len(names):
                raise PartnerFileError(
                    f"{file.name}, line {line}: {len(cells)} cells for {len(names)} columns. Put a cell that contains the"
                    " separator in quotation marks."
                )
            else:
                rows.append((line, {"name": ""} | dict(zip(names, cells, strict=False))))
    except csv.Error as error:
        raise PartnerFileError(f"{file.name}, line {reader.line_num}: not CSV ({error}).") from None
    if not file.is_private and any(cells.get(what) for _, cells in rows for what in ("key", "secret")):
        raise PartnerFileError(
            f"{file.name} contains keys or secrets and can be read by others: run chmod 600 on it, or enter it with standard"
            " input."
        )
    return rows


def _header(file: _File, names: list[str], columns: tuple[str, ...]) -> list[str]:
    unknown = [name for name in names if name not in columns]
    if unknown or "name" not in names or len(set(names)) < len(names):
        # A file without this line begins with a partner, whose cells may be secrets.
        raise PartnerFileError(
            f"{file.name}: the first line must name the columns, each once: name, and of {', '.join(columns[1:])} those that"
            " the file has."
        )
    return names
