"""docs/security.md has the attacks that the tests play."""

from rsu_pipeline_tests.docs.attacks import COMMAND, PAGE, drawn


def test_the_page_of_security_has_every_attack_that_is_played() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert drawn(text) == text, f"write it again: {COMMAND}"
