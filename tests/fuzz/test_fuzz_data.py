"""Any bytes as a data file: rows, or one message; never a traceback, never a hang."""

import gzip
import io
import json
import zipfile

import pyarrow as pa
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from mutations import mutated, own_error_or_fine
from pyarrow import parquet

from nlp_pipeline import DataError
from nlp_pipeline.config.schema import DataConfig
from nlp_pipeline.data import Column, load_rows, load_splits

COLUMNS = {
    "label": (Column("text", "text"), Column("pair", "text", required=False), Column("label", "label", is_label=True)),
    "labels": (Column("text", "text"), Column("labels", "label_list", is_label=True)),
    "score": (Column("text", "text"), Column("score", "number", is_label=True)),
    "tags": (Column("tokens", "tokens"), Column("tags", "tags", is_label=True)),
}
ROWS = [
    {"id": f"r{i}", "text": f"the card {i}, “late”\n", "label": "ab"[i % 2], "labels": ["a", "b"][: i % 3], "score": i / 2,
     "tokens": ["the", "card", str(i)], "tags": ["O", "B-X", "O"]}
    for i in range(6)
]  # fmt: skip
CSV = "id,text,label,labels,score,tokens,tags\n" + "".join(
    f'{r["id"]},"{r["text"]}",{r["label"]},"{json.dumps(r["labels"]).replace(chr(34), chr(39))}",{r["score"]},'
    f'{" ".join(r["tokens"])},{" ".join(r["tags"])}\n'
    for r in ROWS
)  # fmt: skip
LINES = "".join(json.dumps(row) + "\n" for row in ROWS)
FRAGMENTS = (
    b'"', b'""', b"\n", b"\r", b"\r\n", b",", b"\t", b"\0", b"\xff", b"\xef\xbb\xbf", b"\xff\xfe", b"null", b"[" * 600, b"{", b"}",
    b'{"a":' * 600, b"1e999", b"NaN", b"9" * 5000, b'"\\ud800"', b"[1, [2]]", b"['a", b"[" + b" " * 4000, b"-1.0", b"1.", b"true",
)  # fmt: skip
kinds = st.sampled_from(list(COLUMNS))


def packed(**options):
    sink = io.BytesIO()
    parquet.write_table(pa.Table.from_pylist(ROWS), sink, **options)
    return sink.getvalue()


def zipped(content, name="rows.csv"):
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, content)
    return sink.getvalue()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("fuzz-data")


def read(folder, name, content, kind, **settings):
    (folder / name).write_bytes(content)

    def load():
        splits = load_splits(DataConfig(train=name, **settings), COLUMNS[kind], base_dir=folder)
        return splits.train[:]  # decodes every value

    own_error_or_fine(load)
    # Rows to predict for: labels may be missing.
    own_error_or_fine(lambda: load_rows(str(folder / name), DataConfig(), COLUMNS[kind])[:])


@given(content=st.binary(max_size=400) | st.text(max_size=300).map(lambda t: t.encode("utf-8", "surrogatepass")),
       name=st.sampled_from(["a.csv", "a.tsv", "a.json", "a.jsonl", "a.parquet", "a.csv.gz", "a.jsonl.zst", "a.csv.zip"]), kind=kinds)  # fmt: skip
@example(content=b'{"a":' * 100_000 + b"1" + b"}" * 100_000, name="a.jsonl", kind="label")
@example(content=b'{"a":' * 100_000 + b"1" + b"}" * 100_000, name="a.json", kind="label")
@example(content=b'{"text": "a", "label": ' + b"9" * 5000 + b"}", name="a.jsonl", kind="label")
@example(content=b'{"text": "a", "label": ' + b"9" * 5000 + b"}", name="a.json", kind="label")
@example(content=b"tokens,tags\na,['b'" + b" " * 200_000 + b"\n", name="a.csv", kind="tags")
def test_any_bytes(content, name, kind, folder):
    read(folder, name, content, kind)


@given(
    content=mutated(CSV.encode(), FRAGMENTS),
    kind=kinds,
    encoding=st.sampled_from(["utf-8", "latin-1", "utf-16", "cp1252"]),
)
def test_faults_in_csv(content, kind, encoding, folder):
    read(folder, "b.csv", content, kind, encoding=encoding, missing_labels="drop")


@given(content=mutated(LINES.encode(), FRAGMENTS), kind=kinds, name=st.sampled_from(["c.jsonl", "c.json"]))
def test_faults_in_json(content, kind, name, folder):
    read(folder, name, content, kind)


@given(data=st.data(), kind=kinds)
def test_faults_in_parquet(data, kind, folder):
    valid = data.draw(
        st.sampled_from([packed(), packed(compression="none", use_dictionary=False), packed(compression="gzip")])
    )
    read(folder, "d.parquet", data.draw(mutated(valid)), kind)


@given(data=st.data(), kind=kinds)
def test_faults_in_compressed_files(data, kind, folder):
    name, valid = data.draw(st.sampled_from([("e.csv.gz", gzip.compress(CSV.encode(), mtime=0)), ("e.csv.zip", zipped(CSV)),
                                             ("e.csv.zst", pa.compress(CSV.encode(), "zstd", asbytes=True))]))  # fmt: skip
    read(folder, name, data.draw(mutated(valid)), kind)


@given(data=st.data(), kind=kinds)
def test_faults_in_saved_data_sets(data, kind, folder):
    import datasets

    place = folder / "saved"
    if not place.exists():
        datasets.Dataset.from_list(ROWS).save_to_disk(str(place))
        (folder / "whole").mkdir()
        for file in place.iterdir():
            (folder / "whole" / file.name).write_bytes(file.read_bytes())
    for file in sorted((folder / "whole").iterdir()):
        (place / file.name).write_bytes(file.read_bytes())
    chosen = data.draw(st.sampled_from([file.name for file in sorted((folder / "whole").iterdir())]))
    (place / chosen).write_bytes(data.draw(mutated((folder / "whole" / chosen).read_bytes())))

    def load():
        return load_splits(DataConfig(train="saved"), COLUMNS[kind], base_dir=folder).train[:]

    own_error_or_fine(load)


def test_the_files_without_faults_are_read(folder):
    for name, content in (
        ("f.csv", CSV.encode()),
        ("f.jsonl", LINES.encode()),
        ("f.parquet", packed()),
        ("f.csv.zip", zipped(CSV)),
    ):
        (folder / name).write_bytes(content)
        for kind, columns in COLUMNS.items():
            found = own_error_or_fine(
                lambda n=name, c=columns: load_splits(DataConfig(train=n), c, base_dir=folder).train
            )
            assert isinstance(found, DataError) or len(found) == len(ROWS), (name, kind)
            assert not isinstance(found, DataError) or kind == "labels", found
