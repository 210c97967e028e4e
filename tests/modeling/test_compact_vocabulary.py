"""A cut-down input embedding trains to the same table as the whole one."""

import math

import pytest
import torch
import transformers

from nlp_pipeline.config.schema import TrainingConfig
from nlp_pipeline.errors import CheckpointError
from nlp_pipeline.modeling.compact_vocabulary import CompactVocabulary, why_not_compact
from nlp_pipeline.training.checkpoint import load_weights, take_snapshot, write_snapshot
from nlp_pipeline.training.optimization import make_optimizer, set_learning_rate
from nlp_pipeline.training.train_state import TrainState

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
            assert cut.get_input_embeddings().weight.shape == table.shape
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
    assert embedding.weight is table
    assert not embedding._forward_pre_hooks
    assert cut.state_dict().keys() == whole.state_dict().keys()


def test_when_the_table_is_looked_at_changes_no_bit():
    """A run that is stopped by a signal saves at a step at which the one left alone doesn't."""
    looked = []

    def look(compact):
        with compact.expanded():
            looked.append(compact.embedding.weight.detach().clone())

    tables = []
    for between in (look, lambda compact: None):
        model = small()
        compact = CompactVocabulary(model, USED)
        train(model, compact, lambda compact=compact, between=between: between(compact), steps=9)
        look(compact)
        compact.remove()
        tables.append(model.get_input_embeddings().weight.detach())
        assert torch.equal(tables[-1], looked[-1])
    assert torch.equal(*tables)
    left_out = [row for row in range(40) if row not in USED]
    decay = math.prod(1 - 0.02 / (step + 1) * 0.3 for step in range(9))
    torch.testing.assert_close(tables[0][left_out], small().get_input_embeddings().weight.detach()[left_out] * decay)


def test_what_is_saved_goes_on_without_the_rows_left_out(tmp_path):
    through = small()
    compact = CompactVocabulary(through, USED)
    optimizer = train(through, compact)
    path = write_snapshot(tmp_path, take_snapshot(through, optimizer, TrainState(step=6), {}))
    assert (
        sum(file.stat().st_size for file in path.glob("*.safetensors")) < 60_000
    )  # 40 x 16 x 3 numbers more otherwise
    again, other = small(), small()
    resumed, wrong = CompactVocabulary(again, USED), CompactVocabulary(other, [0, 2, 3, 5, 9, 12])
    load_weights(path, again)
    resumed.loaded()
    load_weights(path, other)
    with pytest.raises(CheckpointError, match="other rows of the input embedding"):
        wrong.loaded()
    another = small()
    with torch.no_grad():
        another.get_input_embeddings().weight[17] += 1.0
    began_otherwise = CompactVocabulary(another, USED)
    load_weights(path, another)
    with pytest.raises(CheckpointError, match="the model that the run began with is another now"):
        began_otherwise.loaded()
    for cut in (compact, resumed):
        cut.remove()
    for (name, ours), (_, theirs) in zip(again.named_parameters(), through.named_parameters(), strict=True):
        assert torch.equal(ours, theirs), name


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
