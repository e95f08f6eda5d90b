"""A process that sends bibs may be killed anywhere: the bib log has each bib once, with its source."""

import os
import signal
from collections.abc import Callable

from rsu_pipeline.sync.bib_push import push_bibs
from rsu_pipeline.warehouse import bib_pushes
from rsu_pipeline_tests.cli.shell import run_module
from rsu_pipeline_tests.hub import Hub
from rsu_pipeline_tests.proof.victim import PUSH_POINTS
from rsu_pipeline_tests.specs import estate

SPEC = estate(registrations=len(PUSH_POINTS) * 2)


def test_a_killed_push_neither_loses_nor_doubles_an_entry_of_the_bib_log(make_hub: Callable[..., Hub]) -> None:
    hub = make_hub(spec=SPEC, seed=7)
    admin = hub.sandbox.admin
    keys = sorted(row["registration_id"] for row in admin.truth(1)["active"])
    for key in keys:
        admin.bib(key, None)
    hub.sync()
    with hub.partner_session() as session:
        event = bib_pushes.find_event(session.conn, hub.value("SELECT min(event_id) FROM runsignup_events"))
        bib_pushes.allow(session.conn, event, "tests")
        session.conn.commit()
    environment = {**os.environ, **hub.environment}
    ours, theirs = keys[0::2], keys[1::2]
    for number, point in enumerate(PUSH_POINTS):
        give = "UPDATE runsignup_participants SET local_bib = %s WHERE registration_id = %s"
        hub.execute(give, str(101 + number), ours[number])
        admin.bib(theirs[number], 500 + number)
        admin.clock(advance=120)
        code = run_module("victim", "1", point, "1", "push", str(event.event_id), environment=environment)
        assert code == -signal.SIGKILL, point
        hub.wait_for_sessions_to_end()
        if number % 2:
            # A sync may come first, or the next push.
            hub.sync()
            hub.assert_bib_log_replays()
        else:
            with hub.partner_session() as session:
                assert push_bibs(session, event, who="tests").is_complete, point
        logged = [(row["registration_id"], row["new_bib"], row["source"]) for row in hub.rows(
            "SELECT * FROM runsignup_bib_changes ORDER BY bib_change_id")]  # fmt: skip
        assert len(logged) == len(set(logged)), f"{point}: a bib is logged twice"
    with hub.partner_session() as session:
        assert push_bibs(session, event, who="tests").is_complete
    logged = [(row["registration_id"], row["new_bib"], row["source"]) for row in hub.rows(
        "SELECT * FROM runsignup_bib_changes ORDER BY registration_id")]  # fmt: skip
    expected = [(key, str(101 + number), "hub") for number, key in enumerate(ours)]
    expected += [(key, str(500 + number), "runsignup") for number, key in enumerate(theirs)]
    assert logged == sorted(expected)
    assert hub.value("SELECT count(*) FROM bib_pushes WHERE outcome IS DISTINCT FROM 'confirmed'") == 0
    assert hub.value("SELECT count(*) FROM bib_pushes") == len(ours)
    hub.assert_equal()
    hub.assert_bib_log_replays()
