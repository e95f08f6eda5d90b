"""Print a statement of a `.sql` file with its fragments, to be run in psql.

    python -m tools.sql MODULE [NAME]

For example `python -m tools.sql warehouse.participants find_missing`. Set its parameters first: `\\set partner 7`.
"""

import re
import sys
from importlib import import_module


def statements(module: str) -> dict[str, str]:
    """Return a module's statements by name, as psql takes them."""
    loaded: dict[str, str] = import_module(f"rsu_pipeline.{module}")._SQL
    return {name: for_psql(text) for name, text in loaded.items()}


def for_psql(statement: str) -> str:
    """Return a statement in psql's form, all parameters quoted, which fits numbers too."""
    if "%(" not in statement:
        return statement
    return re.sub(r"%\((\w+)\)s", r":'\1'", statement).replace("%%", "%")


def main(arguments: list[str]) -> int:
    """Print the statements that are named, or all of the module's."""
    found = statements(arguments[0])
    for name in arguments[1:] or found:
        print(f"-- {name}\n{found[name]};\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
