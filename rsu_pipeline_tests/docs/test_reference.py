"""docs/reference/ is what the code declares: settings, commands, JSON."""

import pytest

from rsu_pipeline.cli import json_outputs
from rsu_pipeline.setting_values import declared_settings
from rsu_pipeline.settings import GROUPS, Settings, load_settings
from rsu_pipeline_tests.docs import known
from tools import reference


@pytest.mark.parametrize("name", ["commands.md", "json.md", "public.md", "settings.md"])
def test_a_page_of_the_reference_is_what_the_code_declares(name: str) -> None:
    assert sorted(reference.pages()) == sorted(path.name for path in reference.FOLDER.iterdir())
    written = (reference.FOLDER / name).read_text(encoding="utf-8")
    assert written == reference.pages()[name], f"write it again: {reference.COMMAND}"


def test_every_setting_is_declared_and_has_its_row() -> None:
    declared = [one.variable for group in (Settings, *GROUPS.values()) for one in declared_settings(group).values()]
    assert len(declared) == len(set(declared)) > 35
    assert known.settings() == set(declared)
    page = reference.settings_page()
    for variable in declared:
        assert page.count(f"\n| `{variable}` |") == 1, variable


def test_a_default_is_a_value_that_its_setting_takes() -> None:
    for group in (Settings, *GROUPS.values()):
        defaults = {item.name: item.default for item in reference.fields(group)}
        for name, one in declared_settings(group).items():
            if one.default is None and defaults[name] not in (None, ()):
                assert load_settings({one.variable: str(defaults[name])}) == load_settings({}), one.variable


def test_every_command_has_its_help_on_the_page() -> None:
    page = reference.commands_page()
    for path in known.leaves():
        assert page.count(f"\n## `rsu {' '.join(path)}`\n") == 1, path


def test_every_command_with_json_declares_what_it_prints() -> None:
    with_json = {
        " ".join(path[1:])
        for path, command in reference.commands()
        # Of `rsu export` it names a file.
        if any("--json" in parameter.opts and getattr(parameter, "is_flag", False) for parameter in command.params)
    }
    assert len(with_json) > 8
    assert {name.partition(" --")[0].removesuffix(" EVENT") for name in json_outputs.OUTPUTS} == with_json


def test_every_field_of_json_has_a_meaning_or_a_type_of_its_own() -> None:
    for shape in reference.declared_types():
        for name, hint in reference.get_type_hints(shape, include_extras=True).items():
            assert reference.meaning_of(hint) or "](#" in reference.describe(hint), f"{shape.__name__}.{name}"
