"""docs/security.md answers for every field that a run's config can have."""

import re

from rsu_pipeline.settings import project_root
from rsu_pipeline_tests.run_config_fields import Path, fields_of_jobs

PAGE = project_root() / "docs" / "security.md"
ROW = re.compile(r"^\| `(ops\.[^`]+)` \|([^|]+)\|([^|]+)\|$", re.MULTILINE)


def named(path: Path) -> str:
    return ".".join(path).replace(".[]", "[]").replace(".{}", "{}")


def declared() -> set[str]:
    return {named(path) for paths in fields_of_jobs().values() for path in paths}


def differences(fields: set[str], page: str) -> list[str]:
    """Return fields without an answer, and answers for fields that do not exist."""
    answered = {name for name, question, answer in ROW.findall(page) if question.strip() and answer.strip()}
    return sorted(fields ^ answered)


def test_every_config_field_is_answered_for() -> None:
    assert len(declared()) >= 12
    different = differences(declared(), PAGE.read_text(encoding="utf-8"))
    assert different == [], "answer for them in docs/security.md; what takes no config has config_schema=NO_CONFIG"


def test_a_field_without_an_answer_shows() -> None:
    page = "| `ops.old.config.gone` | x | y |\n| `ops.a.config.b` | x |  |"
    assert differences({"ops.a.config.b"}, page) == ["ops.a.config.b", "ops.old.config.gone"]
