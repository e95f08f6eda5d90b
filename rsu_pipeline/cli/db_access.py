"""`rsu db url` and `rsu db grant-reader`: addresses of the database for other programs."""

from collections.abc import Iterator
from contextlib import contextmanager

import click
import psycopg2.errors
from psycopg2.extensions import connection as Connection

from rsu_pipeline import installation
from rsu_pipeline.cli.common import hub_connection
from rsu_pipeline.warehouse import addresses, reader_logins
from rsu_pipeline.warehouse.login_urls import LoginAddress
from rsu_pipeline.warehouse.roles import RolesError

JDBC_OPTION = click.option("--jdbc", is_flag=True, help="Print the URL in the form of JDBC.")


@click.command("url")
@click.option("--reader", is_flag=True, help="For a login that only reads, without contact data. It is made if needed.")
@JDBC_OPTION
def url_(reader: bool, jdbc: bool) -> None:
    """Print the database's URL with its password, for psql, pandas, JDBC and BI tools.

    The password is printed, so do not run it where output is logged. --reader is what other people and programs should get.

    \b
    psql "$(rsu db url --reader)"
    """
    here = installation.current()
    with _login_connection("db url") as (conn, address):
        if reader:
            address = reader_logins.find_shared_login(conn, here.secret_box, address)
    _print(address, jdbc)


@click.command("grant-reader")
@click.argument("name")
@click.option(
    "--new-password", is_flag=True, help="Give an existing login another password. The old one stops working."
)
@JDBC_OPTION
def grant_reader(name: str, new_password: bool, jdbc: bool) -> None:
    """Create the database login NAME, which reads without contact data, and print its URL with its password.

    The password is stored nowhere and printed only now. For an existing login the rights are renewed, as needed after an
    upgrade that brings more to read.
    """
    with _login_connection("db grant-reader") as (conn, address):
        with conn.cursor() as cur:
            cur.execute("SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = %s)", (name,))
            (exists,) = cur.fetchone() or (False,)
        password = None if exists and not new_password else reader_logins.generate_password()
        reader_logins.grant_reader(conn, name, password)
        conn.commit()
    if password is None:
        click.echo(
            f"{name} may read {len(reader_logins.FOR_ANALYSTS)} tables and views. Its password is unchanged: --new-password"
            " sets another."
        )
    else:
        _print(address.as_user(name, password), jdbc)


@contextmanager
def _login_connection(purpose: str) -> Iterator[tuple[Connection, LoginAddress]]:
    """Open a session at the hub's database, with its address.

    Raises:
        RolesError: the server does not let this role create logins.
    """
    with hub_connection(purpose) as conn:
        address = LoginAddress.of(conn, addresses.parse(installation.current().database_url))
        try:
            yield conn, address
        except psycopg2.errors.InsufficientPrivilege as error:
            raise RolesError(
                f"The server refused ({(error.diag.message_primary or '').strip()}), and nothing was changed. Run this as a"
                " role that may create roles and owns the tables."
            ) from None


def _print(address: LoginAddress, jdbc: bool) -> None:
    click.echo(address.jdbc_url() if jdbc else address.url())
    if not installation.current().settings.database_url:
        click.echo("The embedded PostgreSQL answers on this machine, and only while `rsu up` is running.", err=True)
