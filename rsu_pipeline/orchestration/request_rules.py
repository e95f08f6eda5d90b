"""Decide which requests the web UI answers.

A browser sends requests for every page that it shows, also for pages of strangers. Dagster's webserver answers all of
them. These rules answer the UI's own page, programs of this machine, and links that lead to a page of the UI:

- The name in `Host` is known. Otherwise a stranger's name could be pointed at this machine (DNS rebinding), and the
  stranger's page would count as the UI's own.
- `Origin`, if it is sent, is the page's own. `Sec-Fetch-Site`, if it is sent, agrees. A link from elsewhere may open a
  page, and nothing else.
- Only POST to /graphql can change anything, with a JSON body and the page's own `Origin`. On loopback a program may leave
  `Origin` out, since no browser does. Elsewhere it may not: the proxy's password would be the browser's.
- GET reads: pages, files, logs, and GraphQL documents that contain queries alone.
- A websocket carries subscriptions alone.
- Endpoints that the hub does not use are closed.
"""

import json
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import urlsplit

from graphql import DocumentNode, FieldNode, GraphQLError, Node, OperationDefinitionNode, Visitor, parse, visit

from rsu_pipeline.setting_values import LOOPBACK_HOSTS

GRAPHQL = "/graphql"
CLOSED = ("/report_asset_materialization/", "/report_asset_check/", "/report_asset_observation/")
"""They write materializations and checks that no run made."""
CLOSED_FIELDS = frozenset({"reportRunlessAssetEvents", "reportAssetCheckEvaluations"})
"""Mutations that do the same. With one a partition would be shown as synced, or a failed check as passed."""
CLOSED_PAGES = ("/notebook", "/dagit/notebook")
"""They read files of the code server, of which the hub has none."""
DOWNLOADS = ("/logs/", "/download_debug/")
SINGLE = ("host", "origin", "content-type", "sec-fetch-site", "sec-fetch-mode", "sec-fetch-dest", "authorization")
"""Headers that decide, and may therefore occur only once."""
MAX_TOKENS = 20_000
"""Tokens of a GraphQL document. The UI's longest has 2,000."""
HOST = re.compile(r"(?:\[([0-9a-f:]+)\]|([a-z0-9.-]+))(?::[0-9]{1,5})?")
Kind = Literal["query", "mutation", "subscription"]


@dataclass(frozen=True)
class Refusal:
    """Why a request is not answered."""

    status: int
    sentence: str


@dataclass(frozen=True)
class Request:
    """What the rules examine. Header names are lower case. `queries` are the values of parameter `query` of the URL."""

    method: str
    """GET and other HTTP methods, or WEBSOCKET."""
    path: str
    headers: Sequence[tuple[str, str]]
    queries: Sequence[str] = ()


def refuse(request: Request, origins: Collection[str]) -> Refusal | None:
    """Return why a request is refused before its body is read, or None.

    Args:
        request: The request.
        origins: Origins of the page beside those on loopback.
    """
    headers = dict(request.headers)
    if any(sum(name == single for name, _ in request.headers) > 1 for single in SINGLE):
        return Refusal(400, "A header that may be there once is there several times.")
    host = headers.get("host", "").lower()
    own = own_origins(host, origins)
    if not own:
        return Refusal(
            421, "The web UI does not answer under this name. RSU_UI_HOSTS adds names to those of this machine."
        )
    is_local = any(origin not in origins for origin in own)
    return (
        _refuse_origin(request, headers, own, is_local=is_local)
        or _refuse_site(request, headers)
        or _refuse_path(request, headers)
    )


def own_origins(host: str, origins: Collection[str]) -> set[str]:
    """Return the origins that the page may have under a `Host`, or none if the name is unknown."""
    found = {origin for origin in origins if urlsplit(origin).netloc == host}
    match = HOST.fullmatch(host)
    # Any port: a tunnel or a container publishes the UI under another one. The page's Origin has the same.
    if match and (match[1] or match[2]) in LOOPBACK_HOSTS:
        found.add(f"http://{host}")
    return found


def _refuse_origin(
    request: Request, headers: Mapping[str, str], own: Collection[str], *, is_local: bool
) -> Refusal | None:
    origin = headers.get("origin")
    if origin is None:
        if is_local or request.method in ("GET", "HEAD"):
            return None
        return Refusal(
            403, "Only the UI's own page may send this. The request needs the header Origin with the page's address."
        )
    if origin not in own:
        return Refusal(403, "Pages of other sites may not use the web UI.")
    return None


def _refuse_site(request: Request, headers: Mapping[str, str]) -> Refusal | None:
    if headers.get("sec-fetch-site", "none") in ("same-origin", "none"):
        return None
    is_link = (headers.get("sec-fetch-mode"), headers.get("sec-fetch-dest")) == ("navigate", "document")
    if is_link and request.method == "GET" and _is_page(request.path):
        return None
    return Refusal(403, "Pages of other sites may not use the web UI.")


def _is_page(path: str) -> bool:
    return path != GRAPHQL and not path.startswith((*CLOSED, *CLOSED_PAGES, *DOWNLOADS))


def _refuse_path(request: Request, headers: Mapping[str, str]) -> Refusal | None:
    if request.path.startswith(CLOSED) or request.path in CLOSED_PAGES:
        return Refusal(403, "The hub does not use this endpoint, so it is closed.")
    if request.method == "WEBSOCKET" and request.path != GRAPHQL:
        return Refusal(403, "There is no websocket here.")
    if request.method == "POST" and request.path == GRAPHQL:
        if not _is_json(headers.get("content-type", "")):
            return Refusal(415, "A POST needs a JSON body and the content type application/json.")
        return None
    if request.method not in ("GET", "HEAD", "WEBSOCKET"):
        return Refusal(405, "Only POST to /graphql can change anything, and GET can read.")
    if request.path == GRAPHQL and request.method != "WEBSOCKET":
        return _refuse_documents(request.queries)
    return None


def _is_json(content_type: str) -> bool:
    return re.fullmatch(r"application/json(?:\s*;\s*charset=\"?utf-?8\"?)?", content_type.strip().lower()) is not None


def _refuse_documents(documents: Sequence[str]) -> Refusal | None:
    """Refuse what a URL may not carry: anything but one document that contains queries alone."""
    if len(documents) > 1:
        return Refusal(400, "The URL has several GraphQL documents.")
    for document in documents:
        kinds = kinds_of(document)
        if kinds is None:
            return Refusal(400, "This is no GraphQL document.")
        if kinds != {"query"}:
            return Refusal(405, "GET can only query. POST to /graphql can change something.")
    return None


def kinds_of(document: str) -> set[Kind] | None:
    """Return the kinds of a GraphQL document's operations, or None if it cannot be read."""
    parsed = _parse(document)
    if parsed is None:
        return None
    return {one.operation.value for one in parsed.definitions if isinstance(one, OperationDefinitionNode)}


def _parse(document: str) -> DocumentNode | None:
    """Return a GraphQL document, or None if it cannot be read."""
    try:
        return parse(document, no_location=True, max_tokens=MAX_TOKENS)
    except (GraphQLError, RecursionError):
        return None


def refuse_body(body: bytes) -> Refusal | None:
    """Return why the body of a POST to /graphql is refused, or None."""
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        return Refusal(400, "The body is no JSON.")
    if not isinstance(value, dict) or not isinstance(value.get("query"), str):
        return Refusal(400, "The body must be one JSON object with a GraphQL document in its member query.")
    fields = fields_of(value["query"])
    if fields is None:
        return Refusal(400, "This is no GraphQL document.")
    if CLOSED_FIELDS & fields:
        return Refusal(403, "Only runs and sensors report materializations and checks, so this is closed.")
    return None


def fields_of(document: str) -> set[str] | None:
    """Return the names of all fields of a GraphQL document, without their aliases, or None if it cannot be read."""

    class Fields(Visitor):
        def __init__(self) -> None:
            super().__init__()
            self.found: set[str] = set()

        def enter_field(self, node: FieldNode, *_: Node | object) -> None:
            self.found.add(node.name.value)

    parsed = _parse(document)
    if parsed is None:
        return None
    fields = Fields()
    visit(parsed, fields)
    return fields.found


def refuse_message(text: str | None) -> Refusal | None:
    """Return why a message of a websocket is refused, or None. Binary messages are None."""
    if text is None:
        return Refusal(400, "The websocket takes text only.")
    try:
        message: Any = json.loads(text)
    except (ValueError, RecursionError):
        return Refusal(400, "The message is no JSON.")
    if not isinstance(message, dict):
        return Refusal(400, "The message is no JSON object.")
    if message.get("type") != "start":
        return None
    payload = message.get("payload")
    document = payload.get("query") if isinstance(payload, dict) else None
    if not isinstance(document, str) or kinds_of(document) != {"subscription"}:
        return Refusal(403, "The websocket carries subscriptions only.")
    return None
