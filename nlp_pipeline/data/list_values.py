"""Columns of lists: tokens, tags, and rows with several labels."""

import ast
import json
import re
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from .json_reader import parse_lines
from .problems import RowProblem, counted, listed
from .raw_columns import Cells, RawColumn, mask
from .values import as_text

STRINGS = pa.list_(pa.string())
# A list as Python (`['a', 'b']`) or numpy (`['a' 'b']`) writes it into a CSV file. Not left to ast alone: it
# would join numpy's 'a' 'b' into one string.
_ITEM = r"""(?:'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"|[+-]?\d+)"""
_LITERAL = re.compile(rf"\[\s*(?:{_ITEM}(?:\s*,\s*{_ITEM}|\s+{_ITEM})*\s*(?:,\s*)?)?\]", re.DOTALL)
_ITEMS = re.compile(_ITEM, re.DOTALL)


def as_tokens(column: RawColumn) -> Cells:
    """Lists of text, or text that stands for a list."""
    return _as_lists(column, _split_blanks, "expected lists of text, or tokens separated by blanks")


def as_texts(columns: Sequence[RawColumn], optional: bool = False) -> Cells:
    """Lists of text; or a text from each of several columns, those that are empty left out.

    Args:
        optional: no list, or an empty one, is nothing that is missing.
    """
    if len(columns) == 1:
        cells = _as_lists(columns[0], None, "expected lists of text")
        return Cells(cells.values, cells.missing & (not optional), cells.problems)
    parts = [as_text(column, optional=True) for column in columns]
    problems = [problem for part in parts for problem in part.problems]
    given = zip(*(part.values.to_pylist() for part in parts), strict=True)
    lists = pa.chunked_array([pa.array([[text for text in row if text.strip()] for row in given], STRINGS)])
    return Cells(lists, _no_items(lists) & (not optional), problems)


def as_references(column: RawColumn) -> Cells:
    """Lists of text; a text alone is a list of one, whatever it looks like."""
    if not column.kinds and not pa.types.is_list(column.values.type):
        cells = as_text(column)
        if cells.problems:
            return cells
        ones = [
            pa.ListArray.from_arrays(pa.array(np.arange(len(part) + 1, dtype=np.int32)), part, mask=pc.is_null(part))
            for part in cells.values.chunks
        ]
        return Cells(pa.chunked_array(ones, STRINGS), cells.missing)
    cells = _as_lists(column, None, "expected a text, or lists of text")
    if cells.problems:
        return cells
    blank = [bool(row) and not all(text.strip() for text in row) for row in cells.values.to_pylist()]
    return Cells(cells.values, cells.missing | np.array(blank, bool))


def as_label_list(column: RawColumn) -> Cells:
    """Lists of labels, or labels separated by `,` `;` or `|`; an empty list says that no label applies."""
    expected = 'expected lists of labels, or labels separated by "," ";" or "|"'
    cells = _as_lists(column, _split_labels, expected)
    if not cells.problems:
        cells.missing = mask(pc.is_null(cells.values))
    return cells


def indicator_labels(columns: Sequence[RawColumn]) -> Cells:
    """One column a label, holding 0 and 1: the names of the columns with 1."""
    applies, problems = [], []
    missing = np.zeros(len(columns[0].values), bool)
    for column in columns:
        text = pc.utf8_lower(pc.utf8_trim_whitespace(pc.cast(column.values, pa.string())))
        yes = mask(pc.is_in(text, pa.array(["1", "1.0", "true", "yes"])))
        no = mask(pc.is_in(text, pa.array(["0", "0.0", "false", "no"])))
        empty = mask(pc.fill_null(pc.equal(text, ""), True))
        bad = np.flatnonzero(~(yes | no | empty))
        if len(bad):
            problems.append(column.wrong(bad, "neither 0 nor 1", "Expected 1 where the label applies, else 0"))
        applies.append(yes)
        missing |= empty
    matrix = np.stack(applies, axis=1)
    _, which = np.nonzero(matrix)
    offsets = np.concatenate([[0], np.cumsum(matrix.sum(axis=1))]).astype(np.int32)
    names = pa.array([column.name for column in columns], pa.string())
    lists = pa.ListArray.from_arrays(pa.array(offsets), names.take(pa.array(which)))
    return Cells(pa.chunked_array([lists]), missing, problems)


def length_mismatch(tokens: Cells, tags: Cells, names: tuple[str, str], column: RawColumn) -> list[str]:
    """Rows whose tags don't match their tokens one to one."""
    have, want = pc.list_value_length(tags.values), pc.list_value_length(tokens.values)
    bad = np.flatnonzero(mask(pc.not_equal(have, want)) & ~tokens.missing & ~tags.missing)
    if not len(bad):
        return []
    pairs = pc.binary_join_element_wise(
        pc.cast(want, pa.string()),
        pa.scalar(f" {names[0]}, "),
        pc.cast(have, pa.string()),
        f" {names[1]}",
        "",
    )
    found = column.found(bad, pairs).replace('"', "")
    rows = counted(len(bad), "row")
    message = f'"{names[0]}" and "{names[1]}" differ in length in {rows}: {found}. Each token needs exactly one tag'
    return [RowProblem(message, "values", {"": bad.tolist()})]


def _as_lists(column: RawColumn, split: Callable[[Any], Any] | None, expected: str) -> Cells:
    """Lists, or strings that hold one each; or strings that `split` makes one of, if it is given."""
    values = column.values
    if column.kinds:
        return _of_several_kinds(column, column.kinds, expected)
    if pa.types.is_list(values.type):
        return _lists(column, expected)
    if not pa.types.is_string(values.type):
        return column.wrong_type(expected)
    empty = as_text(column).missing
    # A column is written in one way; a row that isn't is a fault in it, not a list of one token "[".
    trimmed = pc.utf8_trim_whitespace(values)
    bracketed = mask(pc.and_(pc.starts_with(trimmed, "["), pc.ends_with(trimmed, "]")))
    if 2 * bracketed.sum() <= (~empty).sum():
        if split is None:
            return column.wrong_type(expected)
        lists = split(pc.if_else(pa.array(empty), None, values))
        return Cells(lists, mask(pc.is_null(lists)))
    lists, bad = _parse_lists(pc.if_else(pa.array(empty), None, values))
    if bad:
        return _bad(column, bad, "unreadable lists", 'Expected a JSON list such as ["a", "b"]')
    return Cells(lists, _no_items(lists))


def _of_several_kinds(column: RawColumn, kinds: Sequence[str], expected: str) -> Cells:
    """Names the rows that differ from most others."""
    proper = Counter(kind for kind in kinds if kind in ("text", "a list of text", "a list of numbers"))
    common = proper.most_common(1)[0][0] if proper else ""
    fine = {"", common, "a list" if common.startswith("a list") else ""}  # an empty list fits among lists
    bad = [row for row, kind in enumerate(kinds) if kind not in fine]
    what = listed(dict.fromkeys(kinds[row] for row in bad))
    return _bad(column, bad, what + (f", not {common} as elsewhere," if common else ""), expected)


def _bad(column: RawColumn, rows: Sequence[int], what: str, expected: str) -> Cells:
    expected = expected[0].upper() + expected[1:]
    nothing = pa.chunked_array([pa.nulls(len(column.values), STRINGS)])
    return Cells(nothing, np.zeros(len(column.values), bool), [column.wrong(rows, what, expected)])


def _lists(column: RawColumn, expected: str) -> Cells:
    """Lists of text, whole numbers or classes."""
    values, inner = column.values, column.values.type.value_type
    if column.classes and pa.types.is_integer(inner):
        names = pa.array(column.classes, pa.string())
        values = _map_items(values, lambda ids: names.take(pc.if_else(_inside(ids, len(names)), ids, None)))
    elif pa.types.is_integer(inner):
        values = pc.cast(values, STRINGS)
    elif not pa.types.is_string(inner):
        return column.wrong_type(expected)
    gaps = _map_items(values, lambda items: pc.is_null(items))
    if _any_item(gaps):
        holes = [row for row, flags in enumerate(gaps.to_pylist()) if flags and any(flags)]
        what = "numbers that stand for no class" if column.classes else "missing items"
        return _bad(column, holes, what, expected)
    return Cells(values, _no_items(values))


def _inside(ids: pa.Array, count: int) -> pa.Array:
    return pc.and_(pc.greater_equal(ids, 0), pc.less(ids, count))


def _any_item(flags: pa.ChunkedArray) -> bool:
    return any(bool(pc.any(chunk.flatten()).as_py()) for chunk in flags.chunks)


def _no_items(lists: pa.ChunkedArray) -> np.ndarray:
    return mask(pc.equal(pc.fill_null(pc.list_value_length(lists), 0), 0))


def _map_items(lists: pa.ChunkedArray, change: Callable[[pa.Array], pa.Array]) -> pa.ChunkedArray:
    """The same lists with other items."""
    chunks = []
    for chunk in lists.chunks:
        lengths = pc.fill_null(pc.list_value_length(chunk), 0).to_numpy(zero_copy_only=False)
        offsets = pa.array(np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32))
        chunks.append(pa.ListArray.from_arrays(offsets, change(chunk.flatten()), mask=pc.is_null(chunk)))
    return pa.chunked_array(chunks)


def _split_blanks(values: pa.ChunkedArray) -> pa.ChunkedArray:
    return pc.utf8_split_whitespace(pc.utf8_trim_whitespace(values))


def _split_labels(values: pa.ChunkedArray) -> pa.ChunkedArray:
    # Blanks and separators at the ends would give empty labels.
    clean = pc.replace_substring_regex(values, r"^[\s,;|]+|[\s,;|]+$", "")
    lists = pc.split_pattern_regex(clean, r"\s*[,;|][\s,;|]*")
    lists = pc.if_else(pc.equal(clean, ""), None, lists)
    # "[]" says that no label applies.
    return pc.if_else(pc.equal(clean, "[]"), pa.scalar([], STRINGS), lists)


def _parse_lists(values: pa.ChunkedArray) -> tuple[pa.ChunkedArray, list[int]]:
    """Lists written as JSON or Python literals; and the rows that can't be read."""
    one_line = pc.fill_null(values, "null")
    if pc.any(pc.match_substring_regex(one_line, r"[\r\n]")).as_py():
        one_line = pc.replace_substring_regex(one_line, r"[\r\n]", " ")
    lines = pc.binary_join_element_wise('{"v":', one_line, "}\n", "")
    text = pa.py_buffer("".join(lines.to_pylist()).encode())
    try:
        table = parse_lines(text, pa.schema([("v", STRINGS)]))
        if table.num_rows == len(values):
            return table.column("v"), []
    except pa.ArrowInvalid:
        pass  # not JSON, or not throughout: row by row
    lists = [None if value is None else _parse_list(value) for value in values.to_pylist()]
    texts = values.to_pylist()
    bad = [row for row, found in enumerate(lists) if found is None and texts[row] is not None]
    return pa.chunked_array([pa.array(lists, STRINGS)]), bad


def _parse_list(text: str) -> list[str] | None:
    """The items of one list; None if it is none, or holds what no text can."""
    try:
        items = _literal(text)
        if not isinstance(items, list) or not all(isinstance(item, str | int) for item in items):
            return None
        found = [str(item) for item in items]
        "".join(found).encode()  # half a surrogate pair, as "\\ud800" stands for, is no text
    except (ValueError, SyntaxError, RecursionError):
        return None
    return found


def _literal(text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        if not _LITERAL.fullmatch(text.strip()):
            raise
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of escapes that Python doesn't know: they stay as they are
            return [ast.literal_eval(item) for item in _ITEMS.findall(text)]
