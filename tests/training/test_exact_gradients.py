"""Any split of one global batch into micro-batches and processes gives the gradient of the whole batch."""

import contextlib
import gc
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from nlp_pipeline import (
    CausalLanguageModeling,
    InstructionTuning,
    MaskedLanguageModeling,
    QuestionAnswering,
    TextClassification,
    TokenClassification,
)
from nlp_pipeline.modeling.loading import load_model
from nlp_pipeline.modeling.padding_free import find
from nlp_pipeline.stages.fitting import run_packed
from nlp_pipeline.training.inputs import InputMaker
from nlp_pipeline.training.step import Stepper

STILL = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
TOLERANCE = 1e-6
WORDS = "where is my late card please unbelievable".split()
TAGGED = [
    {"tokens": [WORDS[(i + j) % 7] for j in range(1 + i % 6)], "tags": ["OOAB"[(i * j) % 4] for j in range(1 + i % 6)]}
    for i in range(21)
]
LABELLED = [{"text": " ".join(WORDS[: 1 + i % 7]), "label": "aaab"[i % 4]} for i in range(21)]
PLACES = ["london", "paris", "new york"]
CONTEXTS = [f"{'the parcel is late and ' * (i % 3)}the card is in {PLACES[i % 3]} on the first" for i in range(21)]
ASKED = [
    {"question": "where is it", "context": text, "answers": {"text": [place], "answer_start": [text.index(place)]}}
    for text, place in zip(CONTEXTS, PLACES * 7, strict=True)
]
SEVERAL = [
    {"text": row["text"], "label": [["a", "b"], ["c"], ["a", "b", "c"], []][i % 4]} for i, row in enumerate(LABELLED)
]
DOCUMENTS = [{"text": row["text"]} for row in LABELLED]
CHATS = [
    {"prompt": f"where is {'my parcel and ' * (i % 3)}it", "completion": " ".join(WORDS[i % 4 : 1 + i % 7] or ["late"])}
    for i in range(21)
]
RECIPES = {  # most sub-words are no targets; rows beyond the maximum length lose some; classes weigh unequally
    "tokens": (TokenClassification, TAGGED, {"scheme": "plain", "class_weights": "balanced"}),
    "texts": (TextClassification, LABELLED, {"class_weights": {"a": 0.3, "b": 4.0}}),
    "several labels": (TextClassification, SEVERAL, {"problem": "multi_label"}),
    "hidden words": (MaskedLanguageModeling, DOCUMENTS, {"share": 0.4}),
    "answers": (QuestionAnswering, ASKED, {"stride": 2}),  # contexts in several windows, most of them without it
    "documents": (CausalLanguageModeling, DOCUMENTS, {}),
    "replies": (InstructionTuning, CHATS, {}),  # what is asked is no target
}
DECODERS = ("documents", "replies")


@pytest.fixture(scope="module")
def models(tiny_bert, tmp_path_factory):
    """{kind of recipe: folder of its model}."""
    from tasks.chat_models import CHATML, write_tiny_llama

    texts = [row["text"] for row in DOCUMENTS]
    decoder = write_tiny_llama(tmp_path_factory.mktemp("models") / "llama", texts, CHATML)
    return {kind: decoder if kind in DECODERS else tiny_bert for kind in RECIPES}


def tokenized(model, kind, folder):
    cls, rows, options = RECIPES[kind]
    recipe = cls(
        model={"name": model, "settings": {} if kind in DECODERS else STILL}, train=rows, options=options,
        precision="fp32", dir=str(folder), max_length=64 if kind == "replies" else 12,
    )  # fmt: skip
    recipe.tokenize()
    return recipe


class OneOfSeveral:
    """Stands for the accelerator of one process of several: no gradient is exchanged, the caller sums them."""

    mixed_precision = "no"
    scaler = None

    def __init__(self, rank, processes):
        self.process_index, self.num_processes, self.device = rank, processes, torch.device("cpu")

    def backward(self, loss):
        loss.backward()

    def no_sync(self, model):
        return contextlib.nullcontext()

    trigger_sync_in_backward = no_sync

    def autocast(self):
        return contextlib.nullcontext()


def gradients(recipe, model, rows, micro, processes, tokens=10**6):
    """{name: float64 gradient}, the mean over processes, as DDP takes it."""
    total = {}
    for rank in range(processes):
        model.zero_grad(set_to_none=True)
        padded = recipe.padded_because is not None
        maker = InputMaker(recipe, recipe.tables["train"], rank, processes, micro, tokens, padded, 10)
        accelerator = OneOfSeveral(rank, processes)
        stepper = Stepper(recipe, model, None, accelerator, recipe.tables["train"], recipe.config.training)
        stepper.gradient(maker((0, rows)))
        for name, parameter in model.named_parameters():
            if parameter.grad is not None:
                total[name] = total.get(name, 0) + parameter.grad.double() / processes
    return total


def assert_same(found, wanted, tolerance=TOLERANCE):
    """To 1e-6 of each parameter's gradient, but for what float32, in which losses are computed, leaves of the largest:
    where all that is there cancels (the bias of keys, or of a softmax over tokens), rounding is the whole gradient.
    """
    assert found.keys() == wanted.keys()
    rounding = torch.finfo(torch.float32).eps * max(float(gradient.norm()) for gradient in wanted.values())
    for name, gradient in wanted.items():
        error = float((found[name] - gradient).norm())
        assert error <= max(tolerance * float(gradient.norm()), rounding), (name, error, float(gradient.norm()))


@pytest.fixture(scope="module", params=[*((name, "float64") for name in RECIPES), ("tokens", "float32")], ids="-".join)
def prepared(request, models, tmp_path_factory):
    """A recipe and its model; in float64 nothing but what isn't exact shows."""
    name, dtype = request.param
    recipe = tokenized(models[name], name, tmp_path_factory.mktemp("run"))
    torch.manual_seed(0)
    model = (
        load_model(recipe.config.model, recipe.auto_model, recipe.model_settings()).to(getattr(torch, dtype)).train()
    )
    run_packed(recipe, model)
    return recipe, model


@settings(max_examples=15)
@given(data=st.data())
def test_any_split_gives_the_gradient_of_the_whole_batch(prepared, data):
    recipe, model = prepared
    rows = np.array(data.draw(st.lists(st.integers(0, 20), min_size=1, max_size=12, unique=True), "rows"))
    micro = data.draw(st.none() | st.integers(1, 12), "micro")
    tokens = data.draw(st.integers(4, 200), "tokens")
    processes = data.draw(st.integers(1, 5), "processes")  # more than rows: some process has none
    assert_same(gradients(recipe, model, rows, micro, processes, tokens), gradients(recipe, model, rows, None, 1))


def mean_loss(recipe, model, rows):
    """torch's own mean over the padded batch, as the losses' definitions have it."""
    batch = recipe.batch(recipe.tables["train"], rows, 0)
    outputs, labels = model(**batch.inputs), batch.targets["labels"]
    if isinstance(recipe, QuestionAnswering):
        hidden = batch.inputs["attention_mask"] == 0
        logits = [x.masked_fill(hidden, -torch.inf) for x in (outputs.start_logits, outputs.end_logits)]
        return sum(F.cross_entropy(x, labels[:, i]) for i, x in enumerate(logits)) / 2
    if labels.is_floating_point():
        return F.binary_cross_entropy_with_logits(outputs.logits, labels)
    weights = getattr(recipe, "weights", None)
    weights = None if weights is None else torch.as_tensor(weights, dtype=outputs.logits.dtype)
    if labels.dim() == 2:
        assert (labels == -100).any()
    return F.cross_entropy(outputs.logits.flatten(0, -2), labels.flatten(), weight=weights, ignore_index=-100)


@settings(max_examples=6)
@given(data=st.data())
def test_the_gradient_is_that_of_torchs_mean_loss_over_the_padded_batch(prepared, data):
    recipe, model = prepared
    count = len(recipe.tables["train"])
    rows = np.array(data.draw(st.lists(st.integers(0, count - 1), min_size=4, max_size=12, unique=True), "rows"))
    model.zero_grad(set_to_none=True)
    mean_loss(recipe, model, rows).backward()
    wanted = {name: p.grad.double() for name, p in model.named_parameters() if p.grad is not None}
    assert_same(gradients(recipe, model, rows, 3, 2), wanted, 1e-5)  # its losses are in float64


def test_documents_share_a_pass_and_prompts_are_no_targets(prepared):
    """What the tests above rely on: else they would compare padded rows, or rows of which every token counts."""
    recipe, model = prepared
    if isinstance(recipe, CausalLanguageModeling | InstructionTuning):
        table, rows = recipe.tables["train"], np.arange(8)
        made = InputMaker(recipe, table, 0, 1, None, 10**6, recipe.padded_because is not None, 10)((0, rows))
        assert find(model) is not None
        assert [len(batch.rows) for batch in made.batches] == [8]
        assert made.tokens == table.lengths[rows].sum()
        assert (made.weight < made.tokens) == isinstance(recipe, InstructionTuning)


def test_the_split_matters_to_a_mean_of_means(prepared):
    """The rows above would show a loss that is averaged within each micro-batch."""
    recipe, model = prepared
    rows = np.arange(8)
    parts = [gradients(recipe, model, part, None, 1) for part in np.array_split(rows, 3)]
    naive = {name: sum(part[name] for part in parts) / 3 for name in parts[0]}
    with pytest.raises(AssertionError):
        assert_same(naive, gradients(recipe, model, rows, None, 1))


@pytest.mark.multi_process
@pytest.mark.parametrize("kind", ["tokens", "texts", "documents"])
def test_two_processes_exchange_the_gradient_of_the_whole_batch(models, tmp_path, kind):
    here = Path(__file__)
    config = here.parents[2] / "accelerate_configs" / "cpu_2_processes.yaml"
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", str(config)]
    answer = subprocess.run(
        [*launch, str(here), models[kind], kind, str(tmp_path)], capture_output=True, text=True, timeout=280
    )
    assert answer.returncode == 0, answer.stderr[-3000:]
    recipe = tokenized(models[kind], kind, tmp_path / "one")
    torch.manual_seed(0)
    model = load_model(recipe.config.model, recipe.auto_model, recipe.model_settings()).train()
    run_packed(recipe, model)
    for number, rows in enumerate(BATCHES):
        found = torch.load(tmp_path / f"{number}.pt")
        assert_same(found, gradients(recipe, model, np.array(rows), None, 1))
    assert json.loads((tmp_path / "processes.json").read_text()) == 2


BATCHES = ([0, 5, 3, 8, 1, 20, 13], [4], [2, 9])
"""Seven rows in micro-batches of two for two processes; a partial last batch with one row, which only one process has."""


def exchange(model_folder: str, kind: str, folder: Path) -> None:
    """What each of two processes runs: the real accelerator and DDP; the main one writes the gradients."""
    recipe = tokenized(model_folder, kind, folder / "two")
    accelerator = recipe.accelerator
    torch.manual_seed(0)
    bare = load_model(recipe.config.model, recipe.auto_model, recipe.model_settings()).train()
    run_packed(recipe, bare)
    model = accelerator.prepare(bare)
    table = recipe.tables["train"]
    stepper = Stepper(recipe, model, None, accelerator, table, recipe.config.training)
    padded = recipe.padded_because is not None
    maker = InputMaker(recipe, table, accelerator.process_index, accelerator.num_processes, 2, 10**6, padded, 10)
    for number, rows in enumerate(BATCHES):
        model.zero_grad(set_to_none=True)
        stepper.gradient(maker((0, np.array(rows))))
        if accelerator.is_main_process:
            found = {name: p.grad.double() for name, p in bare.named_parameters() if p.grad is not None}
            torch.save(found, folder / f"{number}.pt")
    if accelerator.is_main_process:
        (folder / "processes.json").write_text(json.dumps(accelerator.num_processes))
    accelerator.wait_for_everyone()
    # DDP's reducer must not be the last to hold the process group: destroyed with Python's lock held, it waits for a
    # thread that waits for the lock.
    accelerator.free_memory()
    del model, stepper
    gc.collect()
    accelerator.end_training()


if __name__ == "__main__":
    exchange(sys.argv[1], sys.argv[2], Path(sys.argv[3]))
