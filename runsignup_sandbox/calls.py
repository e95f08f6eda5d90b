"""One API call as the endpoints read it, the answer they return, and its format."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl
from xml.sax.saxutils import escape

from runsignup_sandbox.encoding import encode
from runsignup_sandbox.switches import Switches

SECRET_PARAMETERS = frozenset(
    ("api_key", "api_secret", "tmp_key", "tmp_secret", "rsu_api_key", "sp_api_key", "rsu_api_reg", "access_token")
)
_ENDPOINTS = {
    ("races",): "races",
    ("race", "*"): "race",
    ("race", "*", "participants"): "participants",
    ("race", "*", "removed-participants"): "removed",
    ("race", "*", "participant-counts"): "counts",
    ("race", "*", "switch-participant-events"): "switch",
    ("race", "*", "delete-participants"): "delete",
    ("v2", "participants", "checkin-timestamps.json"): "checkins",
    ("v2", "auth-info", "entity-info.json"): "entity",
}


class ApiError(Exception):
    """An error of the API: its code, its text and its HTTP status."""

    def __init__(self, code: int, message: str, status: int = 200, details: str | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.status = status
        self.details = details


@dataclass(slots=True)
class Call:
    """Method, path below /Rest, first value of each parameter, lower-case headers, form fields.

    `most_rows` limits the rows of this answer alone. The next page begins where it would without.
    """

    method: str
    path: tuple[str, ...]
    query: dict[str, str]
    headers: dict[str, str]
    form: dict[str, str]
    client: tuple[str, int] | None
    most_rows: int | None = None

    @property
    def endpoint(self) -> str:
        """`races`, `race`, `participants`, `edit` and so on, or `unknown` for a path without a method."""
        pattern = tuple("*" if self.path[0] == "race" and place == 1 else part for place, part in enumerate(self.path))
        found = _ENDPOINTS.get(pattern, "unknown")
        return "edit" if found == "participants" and self.method == "POST" else found

    @property
    def race_id(self) -> int | None:
        text = self.path[1] if len(self.path) > 1 and self.path[0] == "race" else self.query.get("race_id", "")
        return int(text) if text.isascii() and text.isdigit() else None

    @property
    def key(self) -> str:
        """The public half of the caller's credentials, or an empty string."""
        return self.query.get("api_key") or self.query.get("rsu_api_key") or ""

    def safe_query(self) -> dict[str, str]:
        """Return the parameters without credentials."""
        return {name: value for name, value in self.query.items() if name not in SECRET_PARAMETERS}

    def flag(self, name: str) -> bool:
        return self.query.get(name) == "T"

    def number(self, name: str) -> int | None:
        """Return a uint parameter, or None when it is not sent. Anything else is error 3."""
        text = self.query.get(name)
        if text is None or text == "":
            return None
        if not (text.isascii() and text.isdigit()):
            raise ApiError(3, f"Invalid parameter: {name}.")
        return int(text)

    def page_size(self, default: int, most: int) -> int:
        size = self.number("results_per_page")
        if size == 0:
            raise ApiError(3, "Invalid parameter: results_per_page.")
        return min(default if size is None else size, most)

    def offset(self, size: int) -> int:
        return (max(self.number("page") or 1, 1) - 1) * size

    def request_json(self) -> dict[str, Any]:
        """Return the JSON object in the form field `request`. Without one it is error 11."""
        try:
            value = json.loads(self.form.get("request", self.query.get("request", "")))
        except ValueError:
            value = None
        if not isinstance(value, dict):
            raise ApiError(11, "Invalid submission.")
        return value


def call_from(scope: Mapping[str, Any], body: bytes) -> Call:
    """Read an ASGI scope. The path's first segment (Rest in any case) is left out."""
    segments = [part for part in str(scope["path"]).split("/") if part]
    query = dict(reversed(parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)))
    headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
    form = dict(parse_qsl(body.decode("utf-8", "replace"), keep_blank_values=True)) if body else {}
    client = scope.get("client")
    path = tuple(segments[1:]) or ("",)
    return Call(scope["method"], path, query, headers, form, tuple(client) if client else None)


@dataclass(slots=True)
class Answer:
    """A finished answer. `rows` is how many registrations, races or check-ins it lists."""

    body: bytes
    status: int = 200
    content_type: str = "application/json; charset=utf-8"
    rows: int = 0
    error_code: int | None = None
    headers: list[tuple[str, str]] = field(default_factory=list)


def error_answer(error: ApiError) -> Answer:
    value: dict[str, Any] = {"error": {"error_code": error.code, "error_msg": error.message}}
    if error.details:
        value["error_details"] = [{"error_msg": error.details}]
    return Answer(encode(value), error.status, error_code=error.code)


def joined(parts: Iterable[bytes]) -> bytes:
    return b",".join(parts)


def spelled(answer: Answer, call: Call, switches: Switches) -> Answer:
    """Format the answer as requested (XML unless `format=json`), in the style of the switches."""
    as_json = call.query.get("format") == "json" or call.path[-1].endswith(".json")
    if as_json and not (switches.pretty or switches.ints_as_strings):
        return answer
    value = json.loads(answer.body)
    if switches.ints_as_strings and answer.error_code is None:
        value = _ints_as_strings(value)
    if as_json:
        text = json.dumps(value, indent=4 if switches.pretty else None)
        answer.body = text.replace("/", "\\/").encode()
    else:
        answer.body = b'<?xml version="1.0" encoding="utf-8"?>\n' + _xml("response", value).encode()
        answer.content_type = "text/xml; charset=utf-8"
    return answer


def _ints_as_strings(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _ints_as_strings(member) for key, member in value.items()}
    if isinstance(value, list):
        return [_ints_as_strings(member) for member in value]
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _xml(name: str, value: Any) -> str:
    if isinstance(value, dict):
        inner = "".join(_xml(str(key), member) for key, member in value.items())
    elif isinstance(value, list):
        inner = "".join(_xml("item", member) for member in value)
    else:
        inner = "" if value is None else escape(str(value))
    return f"<{name}>{inner}</{name}>"
