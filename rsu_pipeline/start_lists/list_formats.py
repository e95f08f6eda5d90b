"""Start lists as files that other programs read: a CSV for spreadsheets, and what scoring programs import.

A scoring program's format has the columns that its maker documents in public, and no others. docs/start-list-files.md names the
sources, and the programs that are left out because no list of their columns is public.
"""

import csv
import io
import re
from collections.abc import Mapping, Sequence
from types import MappingProxyType

from rsu_pipeline.display import put_on_one_line
from rsu_pipeline.start_lists.start_list_store import Entry

FORMATS: Mapping[str, Mapping[str, str]] = MappingProxyType(
    {
        "csv": MappingProxyType(
            {
                name: name
                for name in "bib first_name last_name age gender city state team problems registration_id bib_source".split()
            }
        ),
        # https://www.raceresult.com/en/support/kbexport2?id=2767 has the fields and
        # https://www.raceresult.com/en/support/kbexport2?id=1115 the import, which denies a file with any other column.
        "raceresult": MappingProxyType(
            {
                "Bib": "bib",
                "Lastname": "last_name",
                "Firstname": "first_name",
                "Gender": "gender",
                "Age": "age",
                "City": "city",
                "State": "state",
                "Club": "team",
            }
        ),
    }
)
"""The columns of each format: the header, and the field of Entry below it. setting_values.LIST_FORMATS has the names."""
# Anybody can register with such a name, and a spreadsheet runs a cell that begins so, also in the wide forms that some
# programs treat alike. If semicolons end a cell, the text after one begins a new cell.
_FORMULA = re.compile("(^|;)(\\s*)([=+\\-@＝＋－＠])")


def format_entries(entries: Sequence[Entry], name: str) -> str:
    """Return the entrants in a format of FORMATS: a line of headers, then one for each of them."""
    columns = FORMATS[name]
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\r\n")
    writer.writerow(columns)
    for entry in entries:
        writer.writerow([_cell(getattr(entry, field)) for field in columns.values()])
    return buffer.getvalue()


def _cell(value: object) -> object:
    """Return a value as a cell, on one line. A text that a spreadsheet would treat as a formula gets an apostrophe in front."""
    if isinstance(value, list):
        value = ", ".join(value)
    return _FORMULA.sub(r"\1'\2\3", put_on_one_line(value)) if isinstance(value, str) else value
