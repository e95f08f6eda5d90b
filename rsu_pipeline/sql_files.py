r"""Load the statements of a module from the `.sql` file beside it.

A file has one statement after another. Each begins with its name and a comment that describes it:

    -- name: count_active
    -- Count the active registrations of these events.
    SELECT count(*) FROM runsignup_participants
    WHERE timing_partner_id = :partner AND event_id = ANY (:'events'::bigint[]) AND removed_at IS NULL

Parameters are written as in psql, `:partner` for numbers and `:'mode'` for everything else, so that a statement runs there
after `\set partner 7`. For psycopg2 both become `%(partner)s`. `{NAME}` is a fragment of SQL: one that Python declares, such as
when an event is over, or an entry above in the file. `python -m tools.sql MODULE NAME` prints a statement with its fragments, to
be run in psql.
"""

import re
from collections.abc import Mapping
from pathlib import Path

_NAME = re.compile(r"^-- name: (\w+)\n", re.MULTILINE)
_PARAMETER = re.compile(r"(?<![:\w]):('?)([a-z]\w*)\1")
_FRAGMENT = re.compile(r"\{([A-Z]\w*)\}")


def load(module: str, **fragments: str) -> dict[str, str]:
    """Return a module's statements by name, as psycopg2 takes them.

    Args:
        module: The module's `__file__`.
        fragments: SQL by name, with parameters in psycopg2's form.

    Raises:
        ValueError: The file is not in the form above, or a fragment is missing or not used.
    """
    path = Path(module).with_suffix(".sql")
    head, *parts = _NAME.split(path.read_text(encoding="utf-8"))
    names, texts = parts[::2], parts[1::2]
    if re.sub(r"^--.*$", "", head, flags=re.MULTILINE).strip() or len(names) != len(set(names)):
        raise ValueError(f"{path.name}: a statement has no name, or one that another has.")
    known = dict(fragments)
    statements = {}
    for name, text in zip(names, texts, strict=True):
        if missing := set(_FRAGMENT.findall(text)) - known.keys():
            raise ValueError(f"{path.name}: {name} uses {sorted(missing)}, which are not declared above it.")
        known[name.upper()] = statement = _converted(text, known)
        # psycopg2 takes %% for % only where it is given parameters.
        statements[name] = statement if "%(" in statement else statement.replace("%%", "%")
    if idle := fragments.keys() - set(_FRAGMENT.findall("".join(texts))):
        raise ValueError(f"{path.name} does not use {sorted(idle)}.")
    return statements


def _converted(text: str, fragments: Mapping[str, str]) -> str:
    """Return an entry without the comment that describes it, with psycopg2's parameters and with its fragments."""
    statement = re.sub(r"\A(?:--.*\n)+", "", text.lstrip()).strip().removesuffix(";")
    statement = _PARAMETER.sub(r"%(\2)s", statement.replace("%", "%%"))
    return _FRAGMENT.sub(lambda found: fragments[found[1]], statement)
