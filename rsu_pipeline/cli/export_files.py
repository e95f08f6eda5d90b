"""Files of an export: written beside and renamed when they are whole, in bounded memory."""

import os
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from psycopg2.extensions import connection as Connection

from rsu_pipeline.cli.output_files import find_replaceable_file
from rsu_pipeline.display import MAX_NAME_CHARS, sanitize_for_display
from rsu_pipeline.warehouse.export_queries import Column, Export, ExportError

COPY_BYTES = 1 << 20
PARQUET_ROWS = 64 * 1024
"""Rows of a group of a Parquet file, which is what is in memory at a time."""
STDOUT = "-"


@contextmanager
def written_file(path: str) -> Iterator[IO[bytes]]:
    """Provide a file to write, readable by its owner only. It replaces the one at the path when the block ends well.

    Raises:
        ExportError: it cannot be written.
    """
    if path == STDOUT:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    target = find_replaceable_file(Path(path), "- is standard output.")
    try:
        descriptor, name = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
    except OSError as error:
        raise _unwritable(path, error) from None
    draft = Path(name)
    try:
        with os.fdopen(descriptor, "wb", buffering=COPY_BYTES) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        draft.replace(target)
    except OSError as error:
        raise _unwritable(path, error) from None
    finally:
        draft.unlink(missing_ok=True)


def write_csv(conn: Connection, export: Export, file: IO[bytes]) -> int:
    """Write an export as CSV for spreadsheets, and return the number of rows."""
    return _copy(conn, export.copy_as_csv(neutralized=True), file)


def write_json(conn: Connection, export: Export, file: IO[bytes]) -> int:
    """Write an export as a JSON array with an object a line, and return the number of rows."""
    file.write(b"[")
    rows = _copy(conn, export.copy_as_json(), _Items(file))
    file.write(b"\n]\n")
    return rows


class _Items:
    """A file that takes lines and writes them as items of an array: a comma and a line end before each but the first."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._between = b"\n"

    def write(self, data: bytes) -> int:
        # PostgreSQL sends whole rows, psycopg2 passes each on by itself.
        for line in data.splitlines():
            self._file.write(self._between + line)
            self._between = b",\n"
        return len(data)


def write_parquet(conn: Connection, export: Export, file: IO[bytes]) -> int:
    """Write an export as Parquet with typed columns, and return the number of rows.

    Raises:
        ExportError: pyarrow is not installed.
    """
    try:
        import pyarrow
        import pyarrow.csv
        import pyarrow.parquet
    except ImportError:
        raise ExportError(
            "Parquet needs pyarrow, which is not installed. Run pip install 'rsu-pipeline[parquet]', or use --csv or --json."
        ) from None
    types = {column.name: _arrow_type(pyarrow, column) for column in export.columns}
    schema = pyarrow.schema(types.items())
    conversion = pyarrow.csv.ConvertOptions(
        column_types=types,
        null_values=[""],
        strings_can_be_null=True,
        quoted_strings_can_be_null=False,
        true_values=["t"],
        false_values=["f"],
    )
    parsing = pyarrow.csv.ParseOptions(newlines_in_values=True)
    with (
        _copied(conn, export.copy_as_csv(neutralized=False)) as (source, count),
        pyarrow.parquet.ParquetWriter(file, schema, compression="zstd") as writer,
    ):
        reader = pyarrow.csv.open_csv(source, parse_options=parsing, convert_options=conversion)
        for batch in _grouped(pyarrow, reader, schema):
            writer.write_table(batch)
        return count()


def _grouped(pyarrow: Any, batches: Any, schema: Any) -> Iterator[Any]:
    """Yield tables of about PARQUET_ROWS rows."""
    waiting: list[Any] = []
    for batch in batches:
        waiting.append(batch)
        if sum(item.num_rows for item in waiting) >= PARQUET_ROWS:
            yield pyarrow.Table.from_batches(waiting, schema)
            waiting = []
    if waiting:
        yield pyarrow.Table.from_batches(waiting, schema)


def _arrow_type(pyarrow: Any, column: Column) -> Any:
    types: dict[int, Callable[[], Any]] = {
        16: pyarrow.bool_,
        20: pyarrow.int64,
        21: pyarrow.int16,
        23: pyarrow.int32,
        1082: pyarrow.date32,
        1114: lambda: pyarrow.timestamp("us"),
        1184: lambda: pyarrow.timestamp("us", tz="UTC"),
        # Amounts are exact to the digit, and below 10**12.
        1700: lambda: pyarrow.decimal128(38, 10),
    }
    return types.get(column.type_oid, pyarrow.string)()


@contextmanager
def _copied(conn: Connection, statement: str) -> Iterator[tuple[IO[bytes], Callable[[], int]]]:
    """Provide the output of a COPY as a file to read, and a function that returns the number of rows once it is read."""
    read_end, write_end = os.pipe()
    rows: list[int] = []
    failures: list[BaseException] = []

    def copy() -> None:
        try:
            with os.fdopen(write_end, "wb", buffering=COPY_BYTES) as sink:
                rows.append(_copy(conn, statement, sink))
        except BaseException as error:
            failures.append(error)

    def count() -> int:
        thread.join()
        if failures:
            raise failures[0]
        return rows[0]

    thread = threading.Thread(target=copy, daemon=True)
    thread.start()
    try:
        with os.fdopen(read_end, "rb", buffering=COPY_BYTES) as source:
            yield source, count
    except Exception:
        # Its end of the pipe is closed, so that the thread ends. What failed there is the cause of what failed here.
        thread.join()
        if failures and not isinstance(failures[0], BrokenPipeError):
            raise failures[0] from None
        raise


def _copy(conn: Connection, statement: str, file: Any) -> int:
    with conn.cursor() as cur:
        cur.copy_expert(statement, file, size=COPY_BYTES)
        return int(cur.rowcount)


def _unwritable(path: str, error: OSError) -> ExportError:
    shown = sanitize_for_display(path, MAX_NAME_CHARS)
    return ExportError(f"The file {shown} cannot be written: {error.strerror}. What was there is unchanged.")
