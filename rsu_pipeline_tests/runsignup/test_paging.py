"""Keyset paging over any registrations, however RunSignup cuts and lays out its pages."""

from collections.abc import Callable, Sequence
from math import ceil

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from rsu_pipeline.runsignup.api_errors import ApiError, Cause
from rsu_pipeline.runsignup.client import Client
from rsu_pipeline.runsignup.paging import REMEMBERED_PAGES, NextPage, PageLengths, next_page
from rsu_pipeline_tests.runsignup.tools import CountingLedger, client, http, raw_server

Events = list[list[int]]
"""The sorted registration ids of each event."""
Server = Callable[[Events, int, int], Events]
"""One page of the events above an id: the ids of each event."""


def cut_together(events: Events, after: int, size: int) -> Events:
    page = sorted(id for ids in events for id in ids if id > after)[:size]
    return [[id for id in page if id in ids] for ids in map(set, events)]


def cut_each(events: Events, after: int, size: int) -> Events:
    return [[id for id in ids if id > after][:size] for ids in events]


def read(events: Events, size: int, server: Server, *, twice: bool = False) -> tuple[list[int], int]:
    """Return every id seen, and the pages it took. `twice` sends the highest id of each page twice."""
    seen: list[int] = []
    after, pages = 0, 0
    while True:
        page = [ids for ids in server(events, after, size) if ids]
        if twice and page:
            highest = max(page, key=lambda ids: ids[-1])
            highest.append(highest[-1])
        pages += 1
        assert pages <= sum(map(len, events)) + 2, "the pass does not end"
        seen += [id for ids in page for id in ids]
        following = next_page(page, unread=0, after=after, size=size)
        if following.covered_to is None:
            return seen, pages
        assert following.covered_to > after
        after = following.covered_to


@st.composite
def events(draw: st.DrawFn) -> Events:
    ids = sorted(draw(st.sets(st.integers(1, 60), max_size=40)))
    owners = draw(st.lists(st.integers(0, 3), min_size=len(ids), max_size=len(ids)))
    return [[id for id, owner in zip(ids, owners, strict=True) if owner == event] for event in range(4)]


@settings(max_examples=300)
@given(events(), st.integers(1, 12))
def test_cut_over_all_events_every_id_comes_once_in_as_few_pages_as_can_be(events: Events, size: int) -> None:
    seen, pages = read(events, size, cut_together)
    total = sum(map(len, events))
    assert sorted(seen) == sorted(id for ids in events for id in ids)
    assert pages == ceil(total / size) + 1, "the last page is empty"


@settings(max_examples=300)
@given(events(), st.integers(1, 12))
@example([[1, 5, 9], [2, 3, 4], [], []], 2)
@example([[1, 2], [50, 60], [], []], 3)
def test_cut_for_each_event_no_id_is_jumped_over(events: Events, size: int) -> None:
    seen, pages = read(events, size, cut_each)
    assert set(seen) == {id for ids in events for id in ids}
    assert pages <= sum(len(ids) // size for ids in events) + 3


@settings(max_examples=200)
@given(events(), st.integers(1, 12), st.sampled_from([cut_together, cut_each]))
def test_a_row_sent_twice_on_its_page_costs_nothing_but_itself(events: Events, size: int, server: Server) -> None:
    seen, _ = read(events, size, server, twice=True)
    assert set(seen) == {id for ids in events for id in ids}


@given(events(), st.integers(1, 12), st.integers(1, 3))
def test_a_pass_that_goes_on_after_a_stop_misses_nothing(events: Events, size: int, stop: int) -> None:
    seen: list[int] = []
    after: int | None = 0
    for _ in range(stop):
        if after is None:
            break
        page = cut_each(events, after, size)
        seen += [id for ids in page for id in ids]
        after = next_page([ids for ids in page if ids], unread=0, after=after, size=size).covered_to
    if after is not None:
        above = [[id for id in ids if id > after] for ids in events]
        seen += read(above, size, cut_each)[0]
    assert set(seen) == {id for ids in events for id in ids}


@given(events(), st.integers(1, 12), st.sets(st.integers(1, 60)), st.sampled_from([cut_together, cut_each]))
def test_rows_that_cannot_be_read_hide_no_others(events: Events, size: int, bad: set[int], server: Server) -> None:
    """The ids in `bad` are on the pages, but not to be read there."""
    seen: set[int] = set()
    after = 0
    for _ in range(200):
        page = server(events, after, size)
        readable = [[id for id in ids if id not in bad] for ids in page]
        seen |= {id for ids in readable for id in ids}
        unread = sum(map(len, page)) - sum(map(len, readable))
        try:
            following = next_page([ids for ids in readable if ids], unread=unread, after=after, size=size)
        except ApiError as error:
            assert unread >= size, "a page that unreadable rows do not fill must be passed"
            assert error.cause is Cause.UNKNOWN_SHAPE
            return
        if following.covered_to is None:
            assert seen == {id for ids in events for id in ids} - bad
            return
        assert following.covered_to > after
        after = following.covered_to
    pytest.fail("the pass does not end")


@given(st.sets(st.integers(1, 99), min_size=1, max_size=20), st.integers(1, 99), st.integers(1, 30))
def test_an_id_that_does_not_rise_above_the_last_page_is_an_error(ids: set[int], after: int, size: int) -> None:
    page = sorted(ids)
    if page[0] > after:
        next_page([page], unread=0, after=after, size=size)
        return
    if page[-1] == after and len(page) < size:
        assert next_page([page], unread=0, after=after, size=size).is_last, (
            "a server without keyset had sent all it has"
        )
        return
    with pytest.raises(ApiError) as caught:
        next_page([page], unread=0, after=after, size=size)
    assert caught.value.cause is Cause.UNKNOWN_SHAPE


@given(st.lists(st.integers(1, 99), min_size=2, max_size=12, unique=True), st.integers(1, 30))
def test_ids_out_of_order_are_an_error(ids: list[int], size: int) -> None:
    if ids == sorted(ids):
        next_page([ids], unread=0, after=0, size=size)
        return
    with pytest.raises(ApiError) as caught:
        next_page([ids], unread=0, after=0, size=size)
    assert caught.value.cause is Cause.UNKNOWN_SHAPE


@pytest.mark.parametrize(
    ("pages", "unread", "size", "covered_to"),
    [
        ([], 0, 1, None),
        ([], 4, 5, None),
        ([[1, 2]], 0, 3, 2),
        ([[1, 4], [2]], 1, 5, 4),
        ([[1, 2]], 0, 2, 2),
        ([[1, 2]], 1, 3, 2),
        ([[1], [7]], 0, 2, 7),
        ([[1, 2, 3], [7]], 0, 3, 3),
        ([[1, 2, 3], [5, 6, 9]], 0, 3, 3),
        ([[1, 2], [50, 60, 70]], 1, 3, 2),
    ],
)
def test_what_follows_a_page(pages: Events, unread: int, size: int, covered_to: int | None) -> None:
    following = next_page(pages, unread=unread, after=0, size=size)
    is_short = covered_to is not None and sum(map(len, pages)) + unread < size
    assert following == NextPage(covered_to, is_short)
    assert following.is_last == (covered_to is None)


def test_a_full_page_without_a_readable_id_cannot_be_passed() -> None:
    with pytest.raises(ApiError) as caught:
        next_page([], unread=3, after=0, size=3)
    assert caught.value.cause is Cause.UNKNOWN_SHAPE


def body_of(page: Events, layout: str) -> bytes:
    """Return the page as RunSignup may lay it out.

    Event ids count from 1, rows of one element in the order of their ids.
    """
    rows = [(id, event) for event, ids in enumerate(page, 1) for id in ids]
    elements = []
    for event in range(1, len(page) + 1):
        holder = {"last": len(page), "first": 1}.get(layout, 0)
        own = [row for row in sorted(rows) if row[1] == event or holder] if holder in (0, event) else []
        text = b",".join(b'{"registration_id":%d,"event_id":%d}' % row for row in own)
        inside, outside = (text, b"") if layout == "inside" else (b"", b',"participants":[%b]' % text if own else b"")
        elements.append(b'{"event":{"event_id":%d,"participants":[%b]}%b}' % (event, inside, outside))
    return b"[" + b",".join(elements) + b"]"


def read_with_client(calls: Client, event_ids: Sequence[int], size: int) -> tuple[list[tuple[int, int | None]], int]:
    seen: list[tuple[int, int | None]] = []
    after: int | None = 0
    pages = 0
    while after is not None:
        page = calls.participants_page(7, event_ids, after=after, size=size)
        pages += 1
        assert pages < 200
        assert not page.unreadable
        seen += [(row.registration_id, row.event_id) for row in page.rows]
        after = page.next.covered_to
    return seen, pages


@pytest.mark.parametrize("server", [cut_together, cut_each])
def test_the_client_sees_every_registration_with_its_event_in_every_layout(server: Server) -> None:
    world: Events = [[]]
    layout = "last"

    def answer(head: str) -> list[bytes]:
        query = dict(part.split("=") for part in head.split()[1].split("?")[1].split("&"))
        after, size = int(query.get("after_registration_id", "0")), int(query["results_per_page"])
        return [http(body_of(server(world, after, size), layout))]

    with raw_server(answer) as running:
        calls = client(running.url, CountingLedger(), attempts=1)

        @settings(max_examples=60)
        @given(events(), st.integers(1, 9), st.sampled_from(["last", "first", "own", "inside"]))
        def check(ids: Events, size: int, wanted: str) -> None:
            nonlocal world, layout
            world, layout = ids, wanted
            seen, pages = read_with_client(calls, [1, 2, 3, 4], size)
            expected = {(id, event) for event, own in enumerate(ids, 1) for id in own}
            assert set(seen) == expected
            if server is cut_together:
                assert len(seen) == len(expected)
                assert pages == ceil(len(expected) / size) + 1

        check()


SHORT = NextPage(9, is_short=True)


def test_a_page_is_the_longest_unless_one_of_the_latest_had_more_rows() -> None:
    lengths = PageLengths()
    assert lengths.note("a", 0, 7, SHORT)
    assert not lengths.note("b", 0, 3, SHORT)
    assert lengths.note("c", 0, 7, SHORT)
    found = [lengths.note(number, 0, 3, SHORT) for number in range(REMEMBERED_PAGES + 1)]
    assert found.index(True) == REMEMBERED_PAGES


@pytest.mark.parametrize(
    ("feed_part", "after", "sent", "following", "is_longest"),
    [
        ("b", 9, 2, NextPage(11, is_short=True), False),  # shorter than the short page before it
        ("b", 9, 3, NextPage(11, is_short=True), True),
        ("b", 9, 3, NextPage(None, is_short=True), False),  # the same rows again
        ("b", 0, 3, NextPage(9, is_short=True), False),  # from the beginning
        ("c", 9, 3, NextPage(11, is_short=True), False),  # of another race
    ],
)
def test_a_short_page_that_is_followed_by_more_shows_what_the_server_gives_out_now(
    feed_part: str, after: int, sent: int, following: NextPage, is_longest: bool
) -> None:
    lengths = PageLengths()
    lengths.note("a", 0, 7, SHORT)
    lengths.note("b", 0, 3, SHORT)
    assert lengths.note(feed_part, after, sent, following) == is_longest
