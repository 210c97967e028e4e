"""Logits at some positions are those that the whole model gives there, gradients included."""

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoModelForMaskedLM, BertConfig, GPT2Config, LlamaConfig, RobertaConfig

from nlp_pipeline.modeling.heads import logits_at

BERT = {"vocab_size": 50, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}


@pytest.mark.parametrize(
    ("loader", "config"),
    [
        (AutoModelForMaskedLM, BertConfig(**BERT)),
        (AutoModelForMaskedLM, RobertaConfig(**BERT)),
        (AutoModelForCausalLM, GPT2Config(vocab_size=50, n_embd=16, n_layer=1, n_head=2)),
        (AutoModelForCausalLM, LlamaConfig(**BERT)),
    ],
    ids=["bert", "roberta", "gpt2", "llama"],
)
def test_logits_and_gradients_are_those_of_the_whole_model(loader, config):
    torch.manual_seed(0)
    model = loader.from_config(config).eval()
    ids = torch.randint(5, 50, (3, 7))
    where = torch.rand(3, 7) < 0.4
    found = []
    for some in (False, True):
        if some:
            with logits_at(model, where):
                logits = model(input_ids=ids).logits
            assert logits.shape == (int(where.sum()), 50)
        else:
            logits = model(input_ids=ids).logits[where]
        logits.logsumexp(-1).sum().backward()
        found.append([logits.detach(), *(p.grad.clone() for p in model.parameters() if p.grad is not None)])
        model.zero_grad()
    assert len(found[0]) == len(found[1])
    for whole, part in zip(*found, strict=True):
        torch.testing.assert_close(part, whole)
    assert model(input_ids=ids).logits.shape == (3, 7, 50)
