"""`rsu schema`: fields that RunSignup sends and this program does not know."""

import json

from rsu_pipeline_tests.cli.shell import refusal, rsu
from rsu_pipeline_tests.hub import Hub


def test_fields_are_shown_accepted_and_a_changed_type_is_exit_code_1(hub: Hub) -> None:
    done = rsu("schema", settings=hub.environment)
    assert (done.returncode, done.stdout) == (0, "Every field that was read is known.\n")
    hub.execute(
        "INSERT INTO schema_drift (timing_partner_id, race_id, field, kind, occurrences) VALUES"
        " (1, 190001, 'pronouns', 'unknown', 17), (2, 190008, 'pronouns', 'unknown', 3)"
    )
    done = rsu("schema", settings=hub.environment)
    assert done.returncode == 0 and "pronouns" in done.stdout and "20" in done.stdout
    (found,) = json.loads(rsu("schema", "--partner", "2", "--json", settings=hub.environment).stdout)
    assert (found["field"], found["kind"], found["occurrences"], found["is_accepted"]) == (
        "pronouns",
        "unknown",
        3,
        False,
    )
    assert "No registration was read with shoes." in refusal(
        rsu("schema", "--accept", "shoes", settings=hub.environment)
    )
    assert "accepted" in rsu("schema", "--accept", "pronouns", settings=hub.environment).stdout
    hub.execute(
        "INSERT INTO schema_drift (timing_partner_id, race_id, field, kind, occurrences) VALUES (1, 190001, 'bib_num', 'type', 1)"
    )
    done = rsu("schema", settings=hub.environment)
    assert done.returncode == 1 and "type changed" in done.stdout
