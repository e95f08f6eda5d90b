"""Docstrings, comments, messages and pages keep to the language of docs/glossary.md.

Every package is translated. One that is not would be excepted from ruff's rules `D` in pyproject.toml.
"""

import re
from pathlib import Path

import pytest

from tools import language
from tools.pages import PROJECT, files, prose

GLOSSARY = PROJECT / "docs" / "glossary.md"
_PATTERNS = language.untranslated()
TRANSLATED = [path for path in language.python_files() if not language.is_untranslated(path, _PATTERNS)]


def test_translated_modules_keep_to_the_language() -> None:
    assert len(TRANSLATED) > 30
    assert [finding for path in TRANSLATED for finding in language.measure(path).findings] == []


def test_a_pattern_that_is_translated_is_taken_off_the_list() -> None:
    paths = language.python_files()
    for pattern in language.untranslated():
        covered = [path for path in paths if language.is_untranslated(path, [pattern])]
        assert covered, f"{pattern} in pyproject.toml covers no file"
        assert any(language.measure(path).findings for path in covered), f"{pattern} is translated: take its D away"


@pytest.mark.parametrize("path", files(), ids=lambda path: path.name)
def test_pages_have_no_banned_word(path: Path) -> None:
    assert language.measure_page(path).banned == []


def test_the_glossary_names_every_banned_word_with_its_replacement() -> None:
    rows = [line.split("|")[1:3] for line in prose(GLOSSARY).splitlines() if re.match(r"\| `[^`]+` \| ", line)]
    replaced = {word.strip(" `"): instead.strip() for word, instead in rows}
    assert set(language.BANNED) <= set(replaced)
    assert all(replaced[word] for word in language.BANNED)


def test_the_glossary_defines_each_term_once() -> None:
    terms = re.findall(r"(?m)^\| \*\*([^*]+)\*\* \| (.+?) \|", prose(GLOSSARY))
    names = [name.lower() for name, _ in terms]
    assert len(names) > 30
    assert sorted(set(names)) == sorted(names)
    assert all(definition.endswith(".") for _, definition in terms)


@pytest.mark.parametrize(
    ("docstring", "expected"),
    [
        ("Return the rows of a page.", True),
        ("Re-raise nothing.", False),
        ("The rows of a page.", False),
        ("Whether a row is new.", False),
        ("`key` as text.", False),
        ("Returns the rows.", False),
    ],
)
def test_a_docstring_that_begins_with_a_noun_phrase_is_noticed(docstring: str, expected: bool) -> None:
    assert language.begins_with_verb(docstring) is expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Rows are held back lest they are lost.", ["lest", "held"]),
        ("The lock is held until the transaction ends.", []),
        ("A held lock. Rows that are held.", ["held"]),
        ("Look the race up: it looks like `desk`.", ["look"]),
        ("At a bad moment of RunSignup no row came.", ["bad moment"]),
        ("The table lookup of a standby, asked for twice.", ["asked for"]),
        ("PR stands for pull request, and the hub stands still.", ["stands"]),
    ],
)
def test_banned_words_are_found_as_words(text: str, expected: list[str]) -> None:
    assert language.banned_words(text) == expected


def test_code_sql_and_names_do_not_count() -> None:
    found = language.measure_source(
        'def f() -> str:\n    """Return `a; b`."""\n    g("SELECT told FROM desk d", "told_at", {"look": 1})\n'
        '    return "x was told to y"  # nothing anew\n',
        "m.py",
    )
    assert (found.functions, found.no_verb, found.semicolons) == (1, [], [])
    assert found.banned == ["m.py:4: tell", "m.py:4: anew"]


def test_properties_and_tests_may_begin_with_a_noun() -> None:
    source = (
        'class C:\n    """A thing; a noun."""\n    @property\n    def p(self): "The p."\n    def m(self): "The m."\n'
        'def test_x(): "Nothing."\n'
    )
    found = language.measure_source(source, "m.py")
    assert found.no_verb == ["m.py:5: The m."]
    assert found.semicolons == ["m.py:2: semicolon"]
