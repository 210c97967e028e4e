"""Packed models under every kind of head against padded eager ones: the same logits and gradients, for any lengths."""

import pytest
import torch
import transformers
from hypothesis import example, given, settings
from hypothesis import strategies as st
from test_padding_free import CONFIGS, LONGEST, assert_alike, batch_of

from nlp_pipeline.modeling.attention_layout import Layout
from nlp_pipeline.modeling.padding_free import PaddingFree

HEADS = ("MaskedLM", "CausalLM", "QuestionAnswering", "MultipleChoice")
DECODERS = ("gpt2", "llama", "mistral", "qwen2", "qwen3")
"""Of the others a causal head would be one on an encoder that sees what follows."""
lengths = st.lists(st.one_of(st.just(1), st.just(LONGEST), st.integers(1, LONGEST)), min_size=1, max_size=7)


def still(config):
    """A copy of a configuration without dropout."""
    values = {
        name: 0.0 if "drop" in name and isinstance(value, float) else value for name, value in config.to_dict().items()
    }
    return type(config).from_dict(values)


PAIRS = [
    (kind, head)
    for kind, config in CONFIGS.items()
    for head in HEADS
    if type(config) in getattr(transformers, f"AutoModelFor{head}")._model_mapping
    and (head != "CausalLM" or kind in DECODERS)
]


@pytest.fixture(scope="module", params=PAIRS, ids="-".join)
def pair(request):
    """The same weights padded and eager, and packed; and the kind of head."""
    kind, head = request.param
    torch.manual_seed(0)
    cls, config = getattr(transformers, f"AutoModelFor{head}"), still(CONFIGS[kind])
    padded, packed = (cls.from_config(config, attn_implementation="eager") for _ in range(2))
    packed.load_state_dict(padded.state_dict())
    return padded.train(), packed.train(), PaddingFree(packed), head


def outputs(model, batch, head):
    """What the head says of each row or real token, in one tensor."""
    if head == "MultipleChoice":  # all rows as choices of one example
        return model(**{name: tensor[None] for name, tensor in batch.items()}).logits
    found = model(**batch)
    logits = torch.stack([found.start_logits, found.end_logits], -1) if head == "QuestionAnswering" else found.logits
    return logits[batch["attention_mask"].bool()]


def test_every_head_is_there():
    assert {head for _, head in PAIRS} == set(HEADS)
    assert {kind for kind, _ in PAIRS} == CONFIGS.keys()


@settings(max_examples=10)
@given(sizes=lengths, multiple=st.sampled_from([1, 8, 32]), seed=st.integers(0, 3))
@example(sizes=[1], multiple=1, seed=0)
@example(sizes=[LONGEST], multiple=32, seed=0)
@example(sizes=[1, LONGEST, 1, LONGEST, 7], multiple=8, seed=0)
def test_logits_and_gradients_are_those_of_the_padded_eager_model(pair, sizes, multiple, seed):
    padded, packed, runner, head = pair
    batch = batch_of(sizes, seed)
    assert_alike(padded, packed, runner.packed(Layout(sizes, multiple)), lambda model: outputs(model, batch, head))
