"""Behaviours of the API that are unsettled or unpleasant, each with a switch."""

from typing import Literal

import msgspec


class Switches(msgspec.Struct, forbid_unknown_fields=True):
    """The current switches. A partial JSON object is merged into them."""

    layout: Literal["last", "own", "first"] = "last"
    """Which element has the rows when several event ids are requested."""
    visibility_delay: float = 0.0
    """Simulated seconds for which a mutation stays invisible, though its last_modified is the earlier time."""
    most_rows: dict[Literal["races", "participants", "removed"], int] = {}
    """The most rows that a page of a feed has, whatever is requested. A feed that is not named is not limited."""
    date_header: Literal["true", "absent", "senseless"] = "true"
    """The `Date` header of answers."""
    latency_ms: float = 0.0
    """Real milliseconds that each answer takes. The state is read half-way through."""
    max_in_flight: int = 2
    in_flight_per_key: bool = False
    """True: the limit applies to each key alone, not to all callers together."""
    registration_required: bool = False
    """True: every call must have a valid caller registration (else code 17)."""
    unknown_sort: Literal["error", "ignore"] = "error"
    duplicate_row: bool = False
    """True: every non-empty page has its last registration twice."""
    template_row: bool = False
    """True: pages of active rows start with a dummy row whose registration_id is -1."""
    repeat_page: bool = False
    """True: `page` and `after_registration_id` are ignored, so the first page is repeated without end."""
    unsorted: bool = False
    """True: a page has the right rows in a scrambled order."""
    wrong_key_code: Literal[7, 6] = 7
    mangle_removed_shape: bool = False
    """True: removed rows appear in the outer `participants` as well as inside `event`."""
    old_after_days: float = 0.0
    """Events that started longer ago are no longer served (RunSignup's terms mention a year). 0: all are."""
    old_answer: Literal["error", "empty"] = "error"
    """The answer to a request for such an event: an error for the whole call, or no rows of that event."""
    ignores_edits: bool = False
    """True: edits of participants are answered as if they were stored, and are not."""
    ints_as_strings: bool = False
    pretty: bool = False
    """True: JSON with newlines and indents."""
    http_error_status: Literal[200, 429] = 200
    """HTTP status of the answer to too many calls in flight. 429 comes with Retry-After."""
