"""Select the registrations of a page: filters, orders, keyset and pages."""

import itertools
import random
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from runsignup_sandbox.calls import ApiError, Call
from runsignup_sandbox.people import Row
from runsignup_sandbox.records import Record, Removal, Shelf
from runsignup_sandbox.switches import Switches
from runsignup_sandbox.world import World

Item = TypeVar("Item", Record, Removal)

ACTIVE_SORTS = frozenset(
    (
        "registration_id",
        "registration_date",
        "age",
        "name",
        "first_name",
        "last_name",
        "bib_num",
        "chip_num",
        "gender",
    )
)
REMOVED_SORTS = frozenset(("registration_id", "registration_date", "last_modified"))
_SEARCHES = ("search_first_name", "search_last_name", "search_email")


def sort_of(call: Call, known: frozenset[str], switches: Switches, default: str) -> tuple[str, bool]:
    """Return the requested order as (name, descending). An unknown one is error 3 or ignored, by switch."""
    words = call.query.get("sort", "").split()
    if not words:
        return default, False
    direction = words[1].upper() if len(words) > 1 else "ASC"
    if words[0] in known and direction in ("ASC", "DESC") and len(words) <= 2:
        return words[0], direction == "DESC"
    if switches.unknown_sort == "error":
        raise ApiError(3, "Invalid parameter: sort.")
    return default, False


def since_of(call: Call) -> int | str | None:
    """Return `modified_after_timestamp` as Unix seconds, None if not sent, `nothing` if it is not an integer."""
    text = call.query.get("modified_after_timestamp")
    if text is None or text == "":
        return None
    digits = text.removeprefix("-")
    return int(text) if digits.isascii() and digits.isdigit() else "nothing"


def active_page(world: World, call: Call, event_ids: Sequence[int]) -> list[Record]:
    """Return the records of one page of `participants`."""
    order, descending = sort_of(call, ACTIVE_SORTS, world.switches, "registration_id")
    keep = _active_filter(world, call)
    key = None if order == "registration_id" else _active_key(world, order)
    size = call.page_size(250, world.switches.most_rows.get("participants", 2500))
    return _page(world, call, world.feed.active, event_ids, size, descending, keep, key)


def removed_page(world: World, call: Call, event_ids: Sequence[int]) -> list[Removal]:
    """Return the records of one page of `removed-participants`."""
    order, descending = sort_of(call, REMOVED_SORTS, world.switches, "registration_id")
    key: Callable[[Removal], Any] | None = None
    if order == "registration_date":
        key = _removal_registered
    elif order == "last_modified":
        key = _removal_modified
    size = call.page_size(250, world.switches.most_rows.get("removed", 1000))
    return _page(world, call, world.feed.removed, event_ids, size, descending, None, key)


def _removal_registered(removal: Removal) -> int:
    return removal.record.registered


def _removal_modified(removal: Removal) -> int:
    return removal.modified


def _page(
    world: World,
    call: Call,
    shelf: Shelf[Item],
    event_ids: Sequence[int],
    size: int,
    descending: bool,
    keep: Callable[[Item], bool] | None,
    key: Callable[[Item], Any] | None,
) -> list[Item]:
    switches = world.switches
    since = since_of(call)
    after, before = call.number("after_registration_id"), call.number("before_registration_id")
    offset = call.offset(size)
    if switches.repeat_page:
        after, offset = None, 0
    if isinstance(since, str):
        return []
    need = offset + size
    ids: list[int] = []
    for event_id in event_ids:
        own = shelf.ids(event_id, after, before, since)
        # In id order no event can contribute more than the page's end needs.
        plain = keep is None and key is None
        ids += (own[-need:] if descending else own[:need]) if plain else own
    ids.sort(reverse=descending)
    chosen: list[Item]
    if keep is None and key is None:
        chosen = [shelf.items[id] for id in ids[offset:need]]
    else:
        found = [shelf.items[id] for id in ids]
        if keep is not None:
            found = [item for item in found if keep(item)]
        if key is not None:
            found.sort(key=key, reverse=descending)
        chosen = found[offset:need]
    chosen = chosen[: call.most_rows]
    if switches.duplicate_row and chosen:
        # A full page of a keyset read stays full. The row left out comes with the next page.
        if len(chosen) == size > 1 and "page" not in call.query:
            chosen.pop()
        chosen.append(chosen[-1])
    if switches.unsorted:
        random.Random(len(chosen)).shuffle(chosen)
    return chosen


def _active_filter(world: World, call: Call) -> Callable[[Record], bool] | None:
    """Return a predicate for the filters that no index answers, or None when there are none."""
    tests: list[Callable[[Record], bool]] = []
    first = call.number("registered_after_timestamp")
    last = call.number("registered_before_timestamp")
    bib = call.number("search_bib")
    if first is not None:
        tests.append(lambda record: record.registered >= first)
    if last is not None:
        tests.append(lambda record: record.registered <= last)
    if bib is not None:
        tests.append(lambda record: record.bib == bib)
    if call.flag("exclude_registrations_via_super_event"):
        tests.append(lambda record: not record.via_bundle)
    for name in _SEARCHES:
        if call.query.get(name):
            tests.append(_search(world, name.removeprefix("search_"), call.query[name]))
    return (lambda record: all(test(record) for test in tests)) if tests else None


def _search(world: World, member: str, text: str) -> Callable[[Record], bool]:
    wanted = text.casefold()
    return lambda record: str(_user(world.row_of(record)).get(member) or "").casefold() == wanted


def _active_key(world: World, order: str) -> Callable[[Record], Any]:
    """Return a sort key with nulls first and the registration id last."""
    if order == "registration_date":
        return lambda record: (record.registered, record.id)
    if order == "bib_num":
        return lambda record: (record.bib is not None, record.bib or 0, record.id)
    members = ("last_name", "first_name") if order == "name" else (order,)

    def key(record: Record) -> tuple[Any, ...]:
        row = world.row_of(record)
        values = [row.get(member, _user(row).get(member)) for member in members]
        numeric = order == "age"
        pairs = ((v is not None, (v if isinstance(v, int) else 0) if numeric else str(v)) for v in values)
        return (*itertools.chain.from_iterable(pairs), record.id)

    return key


def _user(row: Row) -> Row:
    user = row.get("user")
    return user if isinstance(user, dict) else {}
