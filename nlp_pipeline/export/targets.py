"""What a model can be exported to, and what each form needs."""

import difflib
import importlib.util
from collections.abc import Sequence
from importlib import metadata

TARGETS = {
    "onnx": "for ONNX Runtime and others; float32, any batch size and length",
    "onnx-int8": "the same with weights of 8 bits: a quarter of the size, faster on CPUs",
    "exported-program": "a .pt2 file for torch.export.load",
    "merged": "a plain transformers folder, adapters folded into the weights",
}
ONNX = ("onnx", "onnx-int8")
ONNX_PACKAGES = ("onnx", "onnxscript", "onnxruntime")
TRACED = (*ONNX, "exported-program")
TRANSFORMERS = (5, 23)
"""The first version whose exporters have the form that is used here; they are called experimental."""
CONVERTER = "python llama.cpp/convert_hf_to_gguf.py FOLDER --outfile model.gguf"
REFUSED = {
    # auto-round 0.16 has a copy of llama.cpp's converter, but as an inner part of its quantization, which may fetch and
    # run newer Python code from the network.
    "gguf": "no maintained package on PyPI offers the conversion of transformers models (`gguf` itself only reads and "
    "writes the format). Export a causal model with --to merged and give that folder to llama.cpp's own converter: "
    f"{CONVERTER}",
    "torchscript": "torch has deprecated it; --to exported-program takes its place",
}


def target_problems(names: Sequence[str]) -> list[str]:
    """Everything that stands in the way of these targets, before a model is loaded."""
    problems = []
    for name in dict.fromkeys(names):
        if name in REFUSED:
            problems.append(f"--to {name}: {REFUSED[name]}")
        elif name not in TARGETS:
            near = difflib.get_close_matches(name, TARGETS, n=1, cutoff=0.5)
            hint = f"did you mean {near[0]}? " if near else ""
            problems.append(f"--to: found {name!r}; {hint}expected one of {', '.join(TARGETS)}")
    if not names:
        problems.append(f"--to: none given, expected one or more of {', '.join(TARGETS)}")
    if any(name in ONNX for name in names):
        problems += [missing(package) for package in ONNX_PACKAGES if importlib.util.find_spec(package) is None]
    if any(name in TRACED for name in names):
        found = metadata.version("transformers")
        if tuple(int(part) for part in found.split(".")[:2]) < TRANSFORMERS:
            wanted = ".".join(map(str, TRANSFORMERS))
            problems.append(f"--to: found transformers {found}, expected {wanted} or newer: its exporters are used")
    return problems


def graph_problems(names: Sequence[str], auto_model: str) -> list[str]:
    """Why a model of a class of transformers can't be a graph."""
    graphs = [name for name in names if name in TRACED]
    if not graphs or auto_model != "AutoModelForSeq2SeqLM":
        return []
    return [
        f"--to {', '.join(graphs)}: an encoder-decoder writes texts by `generate`, which no graph of one pass is; "
        "take --to merged, a folder that transformers loads"
    ]


def missing(package: str) -> str:
    """The problem with a package that isn't installed."""
    return f"ONNX needs the package `{package}`: pip install 'nlp-pipeline[export]'"
