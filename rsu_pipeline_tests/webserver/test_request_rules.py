"""The rules by themselves: what is answered, and what of it a table of attacks cannot show."""

import pytest

from rsu_pipeline.orchestration.request_rules import Request, own_origins, refuse, refuse_body, refuse_message
from rsu_pipeline_tests.webserver.attacks import body, start

LOCAL = "127.0.0.1:3000"
NAMES = ("https://hub.example.com", "http://hub.internal:8080")
JSON = "application/json"


def status(method: str, path: str, host: str = LOCAL, query: tuple[str, ...] = (), **headers: str) -> int:
    """Return the status that a request gets, 200 if it is answered."""
    named = [("host", host), *((name.replace("_", "-").lower(), value) for name, value in headers.items())]
    refusal = refuse(Request(method, path, named, query), NAMES)
    return refusal.status if refusal else 200


@pytest.mark.parametrize("host", ["127.0.0.1:3000", "localhost:3000", "localhost", "[::1]:3000", "LOCALHOST:8080"])
def test_this_machine_is_answered_under_any_port(host: str) -> None:
    """A tunnel has another one."""
    assert status("GET", "/runs", host) == 200
    origin = f"http://{host.lower()}"
    assert status("POST", "/graphql", host, Content_Type=JSON, Origin=origin, Sec_Fetch_Site="same-origin") == 200
    assert status("WEBSOCKET", "/graphql", host, Origin=origin) == 200


@pytest.mark.parametrize(
    "host",
    ["", "evil.test", "127.0.0.1.evil.test", "localhost.", "127.0.0.2", "127.1", "localhost:", "localhost:x", "[::1",
     "::1", "hub.example.com:8443", "hub.example.com.", "hub.internal", "localhost:3000, evil.test", "xlocalhost"],
)  # fmt: skip
def test_an_unknown_name_is_refused(host: str) -> None:
    assert status("GET", "/", host) == 421


def test_a_name_that_was_added_is_answered_with_its_own_origin_only() -> None:
    for host, own, other in (
        ("hub.example.com", "https://hub.example.com", "http://hub.example.com"),
        ("hub.internal:8080", "http://hub.internal:8080", "https://hub.internal:8080"),
    ):
        assert own_origins(host, NAMES) == {own}
        assert status("POST", "/graphql", host, Content_Type=JSON, Origin=own) == 200
        assert status("POST", "/graphql", host, Content_Type=JSON, Origin=other) == 403
        assert status("POST", "/graphql", host, Content_Type=JSON, Origin=f"http://{LOCAL}") == 403


def test_who_leaves_the_origin_out_may_change_something_on_loopback_only() -> None:
    assert status("POST", "/graphql", Content_Type=JSON) == 200
    assert status("POST", "/graphql", "hub.example.com", Content_Type=JSON) == 403
    assert status("WEBSOCKET", "/graphql", "hub.example.com") == 403
    assert status("GET", "/runs", "hub.example.com") == 200


def test_a_link_from_elsewhere_opens_a_page_and_nothing_else() -> None:
    """Alerts have links."""
    link = {"Sec_Fetch_Site": "cross-site", "Sec_Fetch_Mode": "navigate", "Sec_Fetch_Dest": "document"}
    assert status("GET", "/runs/4711", **link) == 200
    for path in ("/graphql", "/logs/x/y/out", "/download_debug/4711", "/notebook"):
        assert status("GET", path, **link) == 403
    assert status("POST", "/graphql", Content_Type=JSON, **link) == 403
    assert status("GET", "/runs/4711", **(link | {"Sec_Fetch_Dest": "iframe"})) == 403


@pytest.mark.parametrize(
    ("content_type", "expected"),
    [(JSON, 200), ("application/json; charset=utf-8", 200), ("Application/JSON;charset=\"UTF-8\"", 200), ("", 415),
     ("application/jsonp", 415), ("text/plain; application/json", 415), ("application/json, text/plain", 415),
     ("application/json; charset=utf-7", 415), ("application/graphql", 415)],
)  # fmt: skip
def test_a_post_is_json(content_type: str, expected: int) -> None:
    assert status("POST", "/graphql", Content_Type=content_type) == expected


@pytest.mark.parametrize(
    ("documents", "expected"),
    [((), 200), (("{ version }",), 200), (("query a { version } query b { version }",), 200), (("",), 400),
     (("mutation { x }",), 405), (("subscription { x }",), 405), (("query a { x } mutation b { x }",), 405),
     (("fragment f on Query { version }",), 405), (("{" * 50_000,), 400), (("{ version }", "{ version }"), 400)],
)  # fmt: skip
def test_a_url_carries_queries_only(documents: tuple[str, ...], expected: int) -> None:
    assert status("GET", "/graphql", query=documents) == expected


def test_what_is_sent_by_post_is_one_object_with_a_document() -> None:
    assert refuse_body(body("mutation { x }").encode()) is None
    for text in (b"", b"[]", b"{}", b'{"query": 5}', b"{", b"[" * 100_000, b"\xff"):
        refusal = refuse_body(text)
        assert refusal is not None
        assert refusal.status == 400


@pytest.mark.parametrize(
    "document",
    [
        "mutation { reportRunlessAssetEvents(eventParams: {eventType: ASSET_MATERIALIZATION}) { __typename } }",
        "mutation m { wipeAssets { x } harmless: reportAssetCheckEvaluations { x } }",
        "mutation m { ...f } fragment f on Mutation { ... on Mutation { reportAssetCheckEvaluations { x } } }",
        "query { version } mutation m { a { b } c: reportRunlessAssetEvents { x } }",
    ],
)
def test_no_materialization_or_check_is_reported_by_a_mutation(document: str) -> None:
    refusal = refuse_body(body(document).encode())
    assert refusal is not None and refusal.status == 403


def test_a_document_that_cannot_be_read_here_is_not_passed_on() -> None:
    for document in (
        "{",
        "{a" * 50_000 + "}" * 50_000,
        "mutation { a: reportRunlessAssetEvents " + "b " * 30_000 + "}",
    ):
        refusal = refuse_body(body(document).encode())
        assert refusal is not None and refusal.status == 400


def test_a_websocket_carries_subscriptions_only() -> None:
    for text in ('{"type": "connection_init"}', start("subscription { x }"), '{"type": "stop", "id": "1"}'):
        assert refuse_message(text) is None
    for text in (None, "", "[]", start("{ x }"), start("mutation { x }"), start("subscription { x } mutation { y }"),
                 '{"type": "start"}', '{"type": "start", "payload": {"query": 1}}', start("{")):  # fmt: skip
        assert refuse_message(text) is not None


def test_a_header_that_decides_is_there_once() -> None:
    twice = [("host", LOCAL), ("host", LOCAL)]
    refusal = refuse(Request("GET", "/", twice), NAMES)
    assert refusal is not None
    assert refusal.status == 400
