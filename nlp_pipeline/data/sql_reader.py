"""Rows of a database query, through SQLAlchemy."""

from typing import Any
from urllib.parse import unquote

import pyarrow as pa

from ..errors import DataError, MissingExtraError
from ..secrets import hide_password
from .arrow_tables import Rows, from_columns
from .locations import Source
from .problems import counted, listed, quoted

CHUNK = 10_000


def read_sql(source: Source) -> Rows:
    """The query's rows, fetched in chunks.

    Raises:
        DataError: no connection, or the query fails. Passwords are never part of the message.
        MissingExtraError: SQLAlchemy is not installed.
    """
    try:
        import sqlalchemy
        from sqlalchemy.exc import ArgumentError, SQLAlchemyError
    except ImportError as error:
        raise MissingExtraError("Reading from a database", "sqlalchemy", "sql") from error
    try:
        url = sqlalchemy.make_url(source.value)
        engine = sqlalchemy.create_engine(url)
    except ArgumentError as error:
        raise DataError(f"is no URL of a database: {_scrub(str(error), source.value)}") from None
    except ImportError as error:
        raise DataError(f"needs a database driver that is not installed: {error}; pip install it") from None
    try:
        with engine.connect() as connection:
            connection = connection.execution_options(stream_results=True, yield_per=CHUNK)
            result = connection.execute(sqlalchemy.text(source.query))
            if not result.returns_rows:
                raise DataError(f"the query gives no rows: {quoted(source.query, 200)}. Expected a SELECT")
            names = list(result.keys())
            chunks = [_chunk(part) for part in result.partitions(CHUNK)]
    except SQLAlchemyError as error:
        # Only the driver's own words: SQLAlchemy's message would add the statement's parameters.
        words = _scrub(str(getattr(error, "orig", None) or error), source.value, url.password)
        where = hide_password(url.render_as_string(hide_password=True))
        raise DataError(f"the query failed on {where}: {words}. The query: {quoted(source.query, 200)}") from None
    finally:
        engine.dispose()
    return _join(names, chunks)


def _chunk(rows: Any) -> list[Rows]:
    """Rows to columns, in Arrow's form at once: Python objects take several times the memory."""
    return [from_columns({"": list(column)}) for column in zip(*rows, strict=True)]


def _join(names: list[str], chunks: list[list[Rows]]) -> Rows:
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        found = listed(quoted(name) for name in repeated)
        raise DataError(f"the query gives {counted(len(repeated), 'column')} twice: {found}. Rename with AS")
    if not chunks:
        raise DataError("the query gives no rows")
    joined: dict[str, pa.ChunkedArray] = {}
    mixed: dict[str, list[str]] = {}
    for i, name in enumerate(names):
        parts = [chunk[i] for chunk in chunks]
        arrays = [part.table.column(0) for part in parts]
        types = {array.type for array in arrays if not pa.types.is_null(array.type)}
        if len(types) > 1 or any(part.mixed for part in parts):
            # No one type, as SQLite allows: once more over the whole column.
            column = from_columns({name: [value for array in arrays for value in array.to_pylist()]})
            joined[name] = column.table.column(0)
            mixed |= column.mixed
        else:
            type_ = types.pop() if types else pa.null()
            joined[name] = pa.chunked_array([chunk for array in arrays for chunk in array.cast(type_).chunks], type_)
    return Rows(pa.table(joined), mixed=mixed)


def _scrub(words: str, url: str, password: object = None) -> str:
    """A driver's message on one line, without the password it may quote."""
    words = " ".join(words.replace(url, hide_password(url)).split())
    for secret in {str(password), unquote(str(password))} if password else ():
        words = words.replace(secret, "***")
    return hide_password(words)
