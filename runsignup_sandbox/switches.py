"""Behaviours of the API that are unsettled or unpleasant, each with a switch."""

from typing import Literal

import msgspec


class Switches(msgspec.Struct, forbid_unknown_fields=True):
    """The switches as they stand; a partial JSON object is merged into them."""

    layout: Literal["last", "own", "first"] = "last"
    """Which element carries the rows when several event ids are asked for."""
    visibility_delay: float = 0.0
    """Simulated seconds a mutation stays unseen, though its last_modified is the earlier time."""
    most_rows: dict[Literal["races", "participants", "removed"], int] = {}
    """Rows that a page of a feed has at the most, whatever is requested; a feed not named is not clamped."""
    date_header: Literal["true", "absent", "senseless"] = "true"
    """What answers carry as their `Date`."""
    latency_ms: float = 0.0
    """Real milliseconds each answer takes; the state is read half-way through."""
    max_in_flight: int = 2
    in_flight_per_key: bool = False
    """True: the limit holds for each key alone, not for all callers together."""
    registration_required: bool = False
    """True: every call must carry a valid caller registration (else code 17)."""
    unknown_sort: Literal["error", "ignore"] = "error"
    duplicate_row: bool = False
    """True: every non-empty page carries its last registration twice."""
    template_row: bool = False
    """True: pages of active rows start with a dummy row whose registration_id is -1."""
    repeat_page: bool = False
    """True: `page` and `after_registration_id` are ignored, so the first page comes for ever."""
    unsorted: bool = False
    """True: a page holds the right rows in a scrambled order."""
    wrong_key_code: Literal[7, 6] = 7
    mangle_removed_shape: bool = False
    """True: removed rows appear in the outer `participants` as well as inside `event`."""
    old_after_days: float = 0.0
    """Events that started longer ago are no longer given out (RunSignup's terms speak of a year); 0: all are."""
    old_answer: Literal["error", "empty"] = "error"
    """What a request for such an event brings: an error for the whole call, or no rows of that event."""
    ints_as_strings: bool = False
    pretty: bool = False
    """True: JSON with newlines and indents."""
    http_error_status: Literal[200, 429] = 200
    """HTTP status of the answer to too many calls in flight; 429 comes with Retry-After."""
