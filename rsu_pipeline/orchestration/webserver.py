"""Serve the Dagster UI to its own page only.

    python -m rsu_pipeline.orchestration.webserver [options of dagster-webserver]

takes the options of `dagster-webserver`, --read-only and --path-prefix included. Address and port are those of
RSU_UI_ADDRESS and RSU_UI_PORT unless -h and -p give others. request_rules.py has what is refused, and why.

It depends on these parts of Dagster (test_webserver.py checks that they exist):

- `dagster_webserver.cli.dagster_webserver`, the command, is run.
- `dagster_webserver.cli.host_dagster_ui_with_workspace_process_context`, which it calls with instance and workspace
  loaded, is replaced by `serve`.
- `dagster_webserver.webserver.DagsterWebserver` is subclassed: `build_middleware`, `make_csp_header` (whose nonce Dagster's
  scripts carry) and `graphql_http_endpoint` (whose page has a script without one).
"""

import base64
import hashlib
import os
import re
import sys
from collections.abc import Sequence

import click
import uvicorn
from dagster_webserver import cli
from dagster_webserver.webserver import DagsterWebserver
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from rsu_pipeline import default_signals
from rsu_pipeline.errors import RsuError, SettingsError
from rsu_pipeline.orchestration.dagster_internals import BaseWorkspaceRequestContext, IWorkspaceProcessContext
from rsu_pipeline.orchestration.request_guard import RequestGuard
from rsu_pipeline.settings import load_settings, project_root

Context = IWorkspaceProcessContext[BaseWorkspaceRequestContext]
PAGE_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src {script}",
        "style-src 'self' 'unsafe-inline'",
        # Plots of runs are data: addresses.
        "img-src 'self' data:",
        "font-src 'self' data:",
        "media-src 'self'",
        "connect-src 'self'",
        "worker-src 'self' blob:",
        "manifest-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
)
"""Content security policy of the UI's pages: of Dagster's own, and of the console for GraphQL at /graphql."""


class HubWebserver(DagsterWebserver[Context, BaseWorkspaceRequestContext]):
    """Dagster's webserver behind RequestGuard."""

    origins: Sequence[str] = ()

    def build_middleware(self) -> list[Middleware]:
        guard = Middleware(RequestGuard, origins=self.origins, path_prefix=self._app_path_prefix)
        return [guard, *super().build_middleware()]

    def make_csp_header(self, nonce: str) -> str:
        return PAGE_POLICY.format(script=f"'nonce-{nonce}' 'strict-dynamic'")

    async def graphql_http_endpoint(self, request: Request) -> Response:
        response: Response = await super().graphql_http_endpoint(request)
        if isinstance(response, HTMLResponse):
            response.headers["Content-Security-Policy"] = PAGE_POLICY.format(script=f"'self' {_hashes(response.body)}")
        return response


def _hashes(page: bytes | memoryview) -> str:
    """Return the sources that allow a page's own inline scripts and no others."""
    scripts = re.findall(rb"<script>(.*?)</script>", bytes(page), re.DOTALL)
    digests = (base64.b64encode(hashlib.sha256(script).digest()).decode() for script in scripts)
    return " ".join(f"'sha256-{digest}'" for digest in digests)


def serve(
    workspace_process_context: Context,
    host: str | None,
    port: int | None,
    path_prefix: str,
    log_level: str,
    live_data_poll_rate: int | None = None,
) -> None:
    """Serve the UI until the process is asked to stop. Replaces Dagster's function with the same arguments."""
    settings = load_settings()
    address = host or settings.ui.address
    settings.ui.check_address(address)
    if path_prefix and not re.fullmatch(r"(/[\w.~-]+)+", path_prefix):
        raise SettingsError(
            f"--path-prefix must begin with a slash and end without one, as in /hub: got {path_prefix!r}."
        )
    webserver = HubWebserver(workspace_process_context, path_prefix, live_data_poll_rate)
    webserver.origins = settings.ui.origins
    uvicorn.run(
        webserver.create_asgi_app(),
        host=address,
        port=port or settings.ui_port,
        log_level=log_level,
        server_header=False,
        proxy_headers=False,
    )


def main(arguments: Sequence[str]) -> None:
    """Run Dagster's command with `serve` in place of its own server."""
    default_signals.restore_if_ignored()
    os.environ.setdefault("DAGSTER_HOME", str(project_root()))
    cli.host_dagster_ui_with_workspace_process_context = serve
    try:
        settings = load_settings()
        cli.dagster_webserver.main(
            list(arguments),
            prog_name="dagster-webserver",
            auto_envvar_prefix="DAGSTER_WEBSERVER",
            default_map={"host": settings.ui.address, "port": settings.ui_port},
        )
    except RsuError as error:
        click.echo(f"Error: {error}", err=True)
        sys.exit(2)


if __name__ == "__main__":
    main(sys.argv[1:])
