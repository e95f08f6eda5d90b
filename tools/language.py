"""Measure the language of docstrings, comments, messages and pages against the rules of docs/glossary.md.

    python -m tools.language

prints the table of all packages. A package that is not translated yet is one whose files are excepted from ruff's
docstring rules (`D`) in pyproject.toml. test_language.py lets that list shrink only.
"""

import ast
import io
import re
import tokenize
import tomllib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path

from tools.pages import PROJECT, prose

ROOTS = ("rsu_pipeline", "runsignup_sandbox", "rsu_pipeline_tests", "benchmarks", "tools")
QUOTING = {Path("tools/language.py"), Path("rsu_pipeline_tests/docs/test_language.py")}
"""Files that quote the banned words."""
VERBS = frozenset(
    """
    abort accept acquire activate add adopt advance allow alter analyse announce answer append apply approve ask
    assert assign attach authenticate await backfill become begin blank block bring build call cancel capture carry
    change check choose claim classify clean clear close collect combine commit compare complete compress compute
    confirm connect consume continue convert copy correct count create cut deactivate decide declare decode decrypt
    define delay delete deliver deny derive describe detect determine disable discard display divide do download
    draw drive drop empty enable encode encrypt end ensure enter erase escape estimate evaluate exclude execute
    exercise exit expect explain export expose extend extract fail fetch fill filter find finish fit flag flatten
    follow forget format forward free generate get give grant group guard handle hash have hide hold identify ignore
    import include increase inform initialise initialize insert install interrupt invoke join keep kill launch leave
    let limit link list listen load lock log look make manage map mark match measure merge migrate mirror monitor
    move name narrow normalise normalize note notify number observe offer open order pair parse pass pause perform persist
    pick place plan play plot poll populate post postpone prepare present preserve press prevent print probe process
    produce propagate protect prove provide publish pull purge push put quarantine query queue quote raise rank read
    rebuild receive recompute reconcile record recover redact reduce refresh refuse register reject release reload
    remember remove rename render renew reopen repair repeat replace replay reply report request require reserve
    reset resolve restart restore restrict resume retain retry return reuse revoke rewind roll rotate route run save
    scan schedule scrub search seed select send serialise serialize serve set settle share show shut sign signal
    simulate size skip sleep solve sort spell split spread stage stamp start state step stop store stream strip
    submit subscribe substitute sum summarise summarize suppress switch sync synchronise take tally terminate test
    throttle time touch trace track translate trigger trim truncate try turn undo unlock unregister update upgrade
    upload upsert use validate verify visit wait wake walk warn watch weigh withdraw work wrap write yield
    """.split()
)
"""Verbs in the imperative with which a docstring may begin. A noun of the same form (`map`, `record`) passes."""

BANNED = {
    "lest": r"lest",
    "anew": r"anew",
    "whoever": r"whoever",
    "so many": r"so many",
    "for ever": r"for ever",
    "not to be had": r"not to be had",
    "of ours": r"of ours",
    "as it was sent": r"as (?:it|they) w(?:as|ere) sent",
    "stands": r"stands?(?! for\b)|stood",
    "tell": r"tells?|told|telling",
    "look": r"look(?:s|ed|ing)?(?! up\b| like\b)",
    "held": r"held",
    "asked for": r"ask(?:s|ed|ing)? for",
    "trouble": r"troubles?",
    "say": r"says?|said|saying",
    "door": r"doors?",
    "desk": r"desks?",
    "bad moment": r"bad moments?|moments? of RunSignup",
}
"""Words that no sentence may hold, with the pattern that finds them. docs/glossary.md has what to write instead."""
LOCK_WORDS = re.compile(r"\b(?:locks?|locked|leases?|slots?|transactions?|mutex)\b", re.IGNORECASE)
"""A lock, lease or slot may be `held`: that is PostgreSQL's own word."""
PATTERNS = {name: re.compile(rf"(?<![\w-])(?:{pattern})(?![\w-])", re.IGNORECASE) for name, pattern in BANNED.items()}
SQL = re.compile(
    r"\b(?:SELECT|INSERT INTO|UPDATE|DELETE FROM|WITH|CREATE|ALTER|DROP|GRANT|REVOKE|FROM|WHERE|JOIN|COPY|SET|VALUES)\b"
)
STORED = frozenset({"removals held back, waiting to be confirmed"})
"""Texts that are values in tables of installations, and that therefore do not change."""
CODE = re.compile(r"``.+?``|`[^`]*`", re.DOTALL)
INDENTED = re.compile(r"(?m)(?:^\n)(?:    .*\n?)+|\x08\n(?:.+\n?)+")
"""Code in a docstring: an indented block after a blank line, or a block that click shows verbatim."""


@dataclass
class Language:
    """Findings of one file or of several together, each with its place."""

    functions: int = 0
    """Docstrings of functions and methods. Properties and test functions are left out: see `has_verb_rule`."""
    docstrings: int = 0
    no_verb: list[str] = field(default_factory=list)
    semicolons: list[str] = field(default_factory=list)
    banned: list[str] = field(default_factory=list)

    def add(self, other: "Language") -> None:
        """Add the findings of another file."""
        self.functions += other.functions
        self.docstrings += other.docstrings
        self.no_verb += other.no_verb
        self.semicolons += other.semicolons
        self.banned += other.banned

    @property
    def findings(self) -> list[str]:
        """All findings, by kind."""
        return [*self.no_verb, *self.semicolons, *self.banned]


def begins_with_verb(docstring: str) -> bool:
    """Return whether the first word is one of VERBS. Every other first word counts as a noun phrase."""
    word = re.match(r"[A-Za-z]+", docstring.strip())
    return word is not None and word[0].lower() in VERBS


def has_verb_rule(function: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    """Return whether a function's docstring has to begin with a verb.

    A property is an attribute to its reader, and the name of a test is a sentence already.
    """
    decorators = {ast.unparse(decorator).rsplit(".", 1)[-1] for decorator in function.decorator_list}
    return not decorators & {"property", "cached_property"} and not function.name.startswith("test_")


def banned_words(text: str) -> list[str]:
    """Return the banned words of a text, code between backticks left out."""
    text = CODE.sub("``", text)
    found = []
    for name, pattern in PATTERNS.items():
        for match in pattern.finditer(text):
            if name == "held" and LOCK_WORDS.search(_sentence_around(text, match.start())):
                continue
            found.append(name)
    return found


def _sentence_around(text: str, position: int) -> str:
    start = max(text.rfind(end, 0, position) for end in (". ", "\n\n", ": "))
    end = text.find(". ", position)
    return text[max(start, 0) : end if end >= 0 else len(text)]


def measure_source(source: str, name: str) -> Language:
    """Measure a Python file: its docstrings, comments, and the string literals that hold a sentence.

    A literal counts when it has at least two spaces and holds no SQL keyword in capitals. So names of columns, fields of
    RunSignup's API and statements do not count.
    """
    found = Language()
    nodes = list(ast.walk(ast.parse(source)))
    documented = set()
    for node in nodes:
        if not isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        text = ast.get_docstring(node)
        if text is None:
            continue
        documented.add(id(node.body[0].value))  # type: ignore[attr-defined]
        place = f"{name}:{node.body[0].lineno}"
        found.docstrings += 1
        found.semicolons += [f"{place}: semicolon"] * _prose_semicolons(text)
        found.banned += [f"{place}: {word}" for word in banned_words(INDENTED.sub("", text))]
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and has_verb_rule(node):
            found.functions += 1
            if not begins_with_verb(text):
                found.no_verb.append(f"{place}: {text.splitlines()[0]}")
    for line, text in _literals(nodes, documented):
        found.banned += [f"{name}:{line}: {word}" for word in banned_words(text)]
    for token in _comments(source):
        found.banned += [f"{name}:{token.start[0]}: {word}" for word in banned_words(token.string)]
    return found


def _comments(source: str) -> Iterator[tokenize.TokenInfo]:
    """Yield the comments, unless no line with one may have a banned word: to find them takes longer than all else."""
    lines = [line for line in source.splitlines() if "#" in line]
    if any(pattern.search(line) for line in lines for pattern in PATTERNS.values()):
        tokens = tokenize.generate_tokens(io.StringIO(source).readline)
        yield from (token for token in tokens if token.type == tokenize.COMMENT)


def _prose_semicolons(docstring: str) -> int:
    return INDENTED.sub("", CODE.sub("", docstring)).count(";")


def _literals(nodes: Iterable[ast.AST], documented: set[int]) -> Iterator[tuple[int, str]]:
    """Yield the string literals that hold a sentence. The pieces of an f-string are one literal."""
    inner: set[int] = set()
    for node in nodes:
        if isinstance(node, ast.JoinedStr):
            inner |= {id(piece) for piece in node.values}
            text = "".join(piece.value if isinstance(piece, ast.Constant) else "x" for piece in node.values)  # type: ignore[misc]
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            if id(node) in inner or id(node) in documented:
                continue
            text = node.value
        else:
            continue
        if text.count(" ") >= 2 and not SQL.search(text) and text not in STORED:
            yield node.lineno, text


def measure_page(path: Path) -> Language:
    """Measure a page of documentation, its blocks and pieces of code left out."""
    found = Language()
    for number, line in enumerate(prose(path).splitlines(), 1):
        found.banned += [f"{path.name}:{number}: {word}" for word in banned_words(line)]
    return found


def untranslated() -> list[str]:
    """Return the patterns of pyproject.toml for files that are not translated yet."""
    settings = tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))
    ignores = settings["tool"]["ruff"]["lint"]["per-file-ignores"]
    return [pattern for pattern, rules in ignores.items() if "D" in rules]


def python_files() -> list[Path]:
    """Return the Python files of the project, relative to it. Those that quote the banned words are left out."""
    found = {path.relative_to(PROJECT) for root in ROOTS for path in (PROJECT / root).rglob("*.py")}
    return sorted(found - QUOTING)


def is_untranslated(path: Path, patterns: list[str]) -> bool:
    """Return whether one of the patterns covers a file."""
    return any(fnmatch(path.as_posix(), pattern) for pattern in patterns)


def package_of(path: Path) -> str:
    """Return the name under which the table has a file: the folder below the root, or the root's own modules."""
    return "/".join(path.parts[:2]) if len(path.parts) > 2 else f"{path.parts[0]}/*"


def measure(path: Path) -> Language:
    """Measure a Python file of the project."""
    return measure_source((PROJECT / path).read_text(encoding="utf-8"), path.as_posix())


def main() -> None:
    """Print the table of all packages."""
    packages: dict[str, Language] = {}
    for path in python_files():
        packages.setdefault(package_of(path), Language()).add(measure(path))
    packages["pages"] = Language()
    for path in [PROJECT / "README.md", PROJECT / "CONTRIBUTING.md", *sorted((PROJECT / "docs").glob("*.md"))]:
        packages["pages"].add(measure_page(path))
    for total, roots in (("product", ("rsu_pipeline/",)), ("all", ROOTS)):
        together = Language()
        for name, found in list(packages.items()):
            if name.startswith(roots):
                together.add(found)
        packages[total] = together
    print(f"| {'package':<32} | functions | no verb | share | semicolons | per docstring | banned |")
    print("|---|--:|--:|--:|--:|--:|--:|")
    for name, found in packages.items():
        share = len(found.no_verb) / max(found.functions, 1)
        each = len(found.semicolons) / max(found.docstrings, 1)
        print(
            f"| {name:<32} | {found.functions:>5} | {len(found.no_verb):>5} | {share:>4.0%}"
            f" | {len(found.semicolons):>4} | {each:.2f} | {len(found.banned):>5} |"
        )


if __name__ == "__main__":
    main()
