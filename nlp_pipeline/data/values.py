"""The values of a column, made the task's type in Arrow; what doesn't fit is found row by row only then."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from .problems import listed
from .raw_columns import Cells, RawColumn, mask

ONE_LABEL = "expected one label a row: text, whole numbers or true/false"


def as_text(column: RawColumn, optional: bool = False) -> Cells:
    """Text, unchanged; rows of blanks alone are missing."""
    values = column.values
    if column.kinds:
        where = [row for row, kind in enumerate(column.kinds) if kind not in ("", "text", "a number")]
        if where:
            kinds = listed(dict.fromkeys(column.kinds[row] for row in where))
            expected = "Text was expected"
            return Cells(values, mask(pc.is_null(values)), [column.wrong(where, kinds, expected)])
    if pa.types.is_integer(values.type):
        values = pc.cast(values, pa.string())
    if not pa.types.is_string(values.type):
        return column.wrong_type("text was expected")
    if optional:
        values = pc.fill_null(values, "")
        return Cells(values, np.zeros(len(values), bool))
    blank = pc.equal(pc.utf8_trim_whitespace(values), "")
    return Cells(values, mask(pc.fill_null(blank, True)))


def joined_text(columns: Sequence[RawColumn], optional: bool = False) -> Cells:
    """The text of several columns with a line break between; missing where all of them are."""
    parts = [as_text(column, optional=True) for column in columns]
    problems = [problem for part in parts for problem in part.problems]
    if problems:
        return Cells(parts[0].values, parts[0].missing, problems)
    given = [pc.if_else(pc.equal(pc.utf8_trim_whitespace(part.values), ""), None, part.values) for part in parts]
    values = pc.binary_join_element_wise(*given, "\n", null_handling="skip")
    return Cells(values, mask(pc.equal(values, "")) & (not optional))


def as_label(column: RawColumn) -> Cells:
    """One label a row, as text without outer blanks."""
    values = column.values
    if column.classes:
        return _class_label(column)
    if column.kinds:
        where = [row for row, kind in enumerate(column.kinds) if kind.startswith(("a list", "an object"))]
        if where:
            problem = column.wrong(where, "no single label", f"E{ONE_LABEL[1:]}")
            return Cells(values, mask(pc.is_null(values)), [problem])
    if pa.types.is_floating(values.type) or pa.types.is_decimal(values.type):
        return _float_label(column, pc.cast(values, pa.float64()))
    if pa.types.is_integer(values.type) or pa.types.is_boolean(values.type):
        values = pc.cast(values, pa.string())
    if not pa.types.is_string(values.type):
        return column.wrong_type(ONE_LABEL)
    # There are few distinct labels: work on those.
    distinct = values.unique()
    trimmed = pc.utf8_trim_whitespace(distinct)
    if not column.typed:
        # "1.0" in a file without types: most likely a column that became floats before it was written.
        given = trimmed.filter(pc.not_equal(trimmed, ""))
        numbers = pc.match_substring_regex(given, r"^-?(0|[1-9]\d*)(\.\d+)?$")
        if pc.any(pc.match_substring(given, ".")).as_py() and pc.all(numbers).as_py():
            return _float_label(column, pc.cast(_empty_to_null(pc.utf8_trim_whitespace(values)), pa.float64()))
    which = pc.index_in(values, distinct)
    labels = pa.chunked_array([trimmed.take(chunk) for chunk in which.chunks], pa.string())
    return Cells(labels, mask(pc.fill_null(pc.equal(labels, ""), True)))


def _class_label(column: RawColumn) -> Cells:
    names = column.classes or []
    ids = column.values
    inside = pc.and_(pc.greater_equal(ids, 0), pc.less(ids, len(names)))
    missing = mask(pc.fill_null(pc.equal(ids, -1), True))  # how data sets of the Hub mark rows without a label
    bad = np.flatnonzero(~mask(inside) & ~missing)
    labels = pa.array(names, pa.string())
    safe = pc.if_else(inside, ids, None)
    values = pa.chunked_array([labels.take(chunk) for chunk in safe.chunks], pa.string())
    expected = f"The classes are numbered 0 to {len(names) - 1:,}"
    return Cells(values, missing, [column.wrong(bad, "numbers that stand for no class", expected)] if len(bad) else [])


def _float_label(column: RawColumn, numbers: pa.ChunkedArray) -> Cells:
    """1.0 is the label "1": a whole column of whole numbers became floats because one was missing."""
    missing = mask(pc.fill_null(pc.is_nan(numbers), True))
    whole = mask(pc.and_(pc.equal(numbers, pc.floor(numbers)), pc.less(pc.abs(numbers), 2.0**53)))
    bad = np.flatnonzero(~whole & ~missing)
    if len(bad):
        expected = (
            "A label is a name or a whole number: to predict numbers use a regression task, to use them as "
            'classes write them as text such as "0.5 stars"'
        )
        return Cells(numbers, missing, [column.wrong(bad, "fractions", expected)])
    integers = pc.cast(pc.if_else(pa.array(missing), None, numbers), pa.int64())
    return Cells(pc.cast(integers, pa.string()), missing)


def as_number(column: RawColumn) -> Cells:
    """Finite float64."""
    values = column.values
    if pa.types.is_string(values.type):
        try:
            numbers = pc.cast(_number_texts(values), pa.float64())
        except pa.ArrowInvalid:
            return _text_among_numbers(column)
    elif any(fits(values.type) for fits in (pa.types.is_integer, pa.types.is_floating, pa.types.is_decimal)):
        numbers = pc.cast(values, pa.float64(), safe=False)
    else:
        return column.wrong_type("numbers were expected")
    missing = mask(pc.is_null(numbers))
    bad = np.flatnonzero(~mask(pc.is_finite(numbers)) & ~missing)
    expected = "Expected finite numbers; leave a cell empty where there is none"
    return Cells(numbers, missing, [column.wrong(bad, "NaN or infinity", expected)] if len(bad) else [])


def _number_texts(values: pa.ChunkedArray) -> pa.ChunkedArray:
    trimmed = _empty_to_null(pc.utf8_trim_whitespace(values))
    return pc.replace_substring_regex(trimmed, r"^\+([\d.])", r"\1")  # Arrow knows no "+1"


def _text_among_numbers(column: RawColumn) -> Cells:
    """The slower pass: every value that doesn't read as a number."""
    texts = _number_texts(column.values).to_pylist()
    missing = np.array([text is None for text in texts])
    bad = [row for row, text in enumerate(texts) if text is not None and not _is_number(text)]
    comma = any("," in texts[row] and _is_number(texts[row].replace(",", ".", 1)) for row in bad)
    expected = "Expected numbers such as 3.5" + (", with a decimal point instead of a comma" if comma else "")
    return Cells(column.values, missing, [column.wrong(bad, "no number", expected)])


def _is_number(text: str) -> bool:
    try:
        pa.scalar(text).cast(pa.float64())
    except pa.ArrowInvalid:
        return False
    return True


def _empty_to_null(values: pa.ChunkedArray) -> pa.ChunkedArray:
    return pc.if_else(pc.equal(values, ""), None, values)
