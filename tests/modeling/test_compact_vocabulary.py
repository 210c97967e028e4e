"""A cut-down input embedding trains to the same table as the whole one."""

import pytest
import torch
import transformers

from nlp_pipeline.config.schema import TrainingConfig
from nlp_pipeline.modeling.compact_vocabulary import CompactVocabulary, why_not_compact
from nlp_pipeline.training.optimization import make_optimizer, set_learning_rate

USED = [0, 2, 3, 5, 9, 11]


def small(cls=transformers.BertForSequenceClassification, **settings):
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=40, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16,
        hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0, max_position_embeddings=8, **settings
    )  # fmt: skip
    return cls(config)


def train(model, compact, between=lambda: None, steps=6):
    optimizer = make_optimizer(model, TrainingConfig(weight_decay=0.3, learning_rate=0.02))
    ids = torch.tensor([[2, 3, 5, 9], [2, 11, 0, 0], [3, 3, 9, 2]])
    mask = (ids != 0).long()
    for step in range(steps):
        set_learning_rate(optimizer, 0.02 / (step + 1))
        loss = model(input_ids=ids, attention_mask=mask, labels=torch.tensor([0, 1, 0])).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        if compact is not None:
            compact.after_step(optimizer)
        if step == 2:
            between()
    return optimizer


def test_the_same_table_as_without():
    whole, cut = small(), small()
    table = cut.get_input_embeddings().weight
    compact = CompactVocabulary(cut, USED)
    assert cut.get_input_embeddings().weight.shape == (6, 16)
    assert compact.rows_left_out == 34
    assert compact.bytes_saved == 34 * 16 * 12

    def between():  # expanded: any text goes in, and the table is whole
        with compact.expanded():
            assert cut.get_input_embeddings().weight is table
            cut(input_ids=torch.tensor([[39, 38]]))

    train(whole, None)
    optimizer = train(cut, compact, between)
    moments = [v for state in optimizer.state.values() for v in state.values() if v.shape == (40, 16)]
    assert not moments
    compact.remove()
    for (name, ours), (_, theirs) in zip(cut.named_parameters(), whole.named_parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5, msg=name)
    embedding = cut.get_input_embeddings()
    assert (embedding.num_embeddings, embedding.padding_idx) == (40, 0)
    assert not embedding._forward_pre_hooks


@pytest.mark.parametrize("size", [100, 10_000])
def test_when_the_table_is_merged_changes_no_bit(monkeypatch, size):
    """A run that is stopped by a signal saves at a step at which the one left alone doesn't."""
    monkeypatch.setattr("nlp_pipeline.modeling.compact_vocabulary.BLOCK", size)

    def merged(compact):
        with compact.expanded():
            pass

    tables = []
    for between in (merged, lambda compact: None):
        model = small()
        compact = CompactVocabulary(model, USED)
        train(model, compact, lambda compact=compact, between=between: between(compact), steps=9)
        compact.remove()
        tables.append(model.get_input_embeddings().weight.detach())
    assert torch.equal(*tables)
    left_out = [row for row in range(40) if row not in USED]
    expected = small().get_input_embeddings().weight.detach()[left_out]
    for step in range(9):
        expected = expected * (1 - 0.02 / (step + 1) * 0.3)
    assert torch.equal(tables[0][left_out], expected)


def test_what_is_loaded_while_expanded_is_trained_on():
    model = small()
    compact = CompactVocabulary(model, USED)
    with compact.expanded(), torch.no_grad():
        model.get_input_embeddings().weight.fill_(3.0)
    assert torch.equal(model.get_input_embeddings().weight, torch.full((6, 16), 3.0))


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (lambda: small(transformers.BertForMaskedLM), "the output layer shares it"),
        (lambda: small().requires_grad_(False), "it isn't trained"),
    ],
)
def test_where_it_cannot_be_cut(model, reason):
    assert why_not_compact(model()) == reason
    assert why_not_compact(small()) is None
