"""Plain text files: a text, then a blank line, then the next one."""

from itertools import groupby

import pyarrow as pa

from .arrow_tables import Rows
from .file_bytes import text_stream


def read_plain(text: pa.Buffer) -> Rows:
    """A row for each stretch of lines between blank ones, in the column `text`; line breaks within it are kept."""
    texts: list[str] = []
    lines: list[int] = []
    numbered = enumerate(text_stream(text), 1)
    for blank, stretch in groupby(numbered, key=lambda pair: not pair[1].strip()):
        if not blank:
            pairs = list(stretch)
            texts.append("".join(line for _, line in pairs).rstrip("\r\n"))
            lines.append(pairs[0][0])
    return Rows(pa.table({"text": pa.array(texts, pa.string())}), lines=lambda rows: [lines[row] for row in rows])
