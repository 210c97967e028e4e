"""What a chat template writes of conversations, and exactly which tokens of it the assistant said."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tasks.chat_models import CHATML, DEFAULT_SYSTEM, FORGETFUL, LLAMA3, MARKED, MARKS, STRIPPED

from nlp_pipeline import DataError
from nlp_pipeline.data.chat import PLAIN, Chat, TemplateProblem, encode_chats, kept
from nlp_pipeline.data.fields import IGNORED
from nlp_pipeline.data.tokenization import Encoder
from nlp_pipeline.tokenizer_training import train_tokenizer

TALK = [
    {"role": "system", "content": "You are brief."},
    {"role": "user", "content": "Where is my card?\n "},
    {"role": "assistant", "content": " It is lost,\nsadly. "},
    {"role": "user", "content": "And the money?"},
    {"role": "assistant", "content": "Gone"},
]
SAID = {
    "chatml": (CHATML, [" It is lost,\nsadly. <|im_end|>", "Gone<|im_end|>"]),
    "llama3": (LLAMA3, ["It is lost,\nsadly.<|eot_id|>", "Gone<|eot_id|>"]),
    "default system": (DEFAULT_SYSTEM, [" It is lost,\nsadly. <|im_end|>", "Gone<|im_end|>"]),
    "stripped": (STRIPPED, [" It is lost,\nsadly.</s>", " Gone</s>"]),
    "marked": (MARKED, [" It is lost,\nsadly. <|im_end|>", "Gone<|im_end|>"]),
    "plain": (PLAIN, [" It is lost,\nsadly. </s>", "Gone</s>"]),
}


@pytest.fixture(scope="module")
def tokenizer():
    made = train_tokenizer([message["content"] for message in TALK] * 3, "bpe", 300)
    made.add_special_tokens({"additional_special_tokens": MARKS})
    return made


def encoded(tokenizer, template, talk, last=False, max_length=512):
    tokenizer.chat_template = template
    columns = encode_chats(Encoder(tokenizer, max_length), [talk], ["a"], [last])
    return {name: np.array(column.to_pylist()[0]) for name, column in columns.items()}


def runs(labels):
    """The targets as lists of neighbours."""
    edges = np.flatnonzero(np.diff(np.r_[False, labels != IGNORED, False].astype(int)))
    return [labels[first:last].tolist() for first, last in edges.reshape(-1, 2)]


@pytest.mark.parametrize("name", SAID)
@pytest.mark.parametrize("skip", [0, 1])
def test_every_turn_of_the_assistant_counts_and_nothing_else(tokenizer, name, skip):
    template, said = SAID[name]
    said = [text.replace("</s>", tokenizer.eos_token) for text in said]
    found = encoded(tokenizer, template, TALK[skip:])
    assert [tokenizer.decode(run) for run in runs(found["labels"])] == said
    whole = tokenizer.apply_chat_template(TALK[skip:], return_dict=False)
    assert [*found["input_ids"], whole[-1]] == whole
    scored = found["labels"] != IGNORED
    assert (found["labels"][scored] == np.array(whole[1:])[scored]).all()
    last = encoded(tokenizer, template, TALK[skip:], last=True)
    assert [tokenizer.decode(run) for run in runs(last["labels"])] == said[-1:]


@pytest.mark.parametrize("name", SAID)
def test_what_comes_before_a_reply_is_what_training_saw_before_it(tokenizer, name):
    """The tokens that a reply is generated from are those that stood before it in training."""
    template, _ = SAID[name]
    asked, whole = encoded(tokenizer, template, TALK[:-1]), encoded(tokenizer, template, TALK, last=True)
    begins = int(np.flatnonzero(whole["labels"] != IGNORED)[0])
    assert asked["input_ids"].tolist() == whole["input_ids"][: begins + 1].tolist()
    expected = tokenizer.apply_chat_template(TALK[:-1], add_generation_prompt=True, return_dict=False)
    assert asked["input_ids"].tolist() == expected
    assert (asked["labels"] == IGNORED).all()


def test_marks_of_the_template_agree_with_transformers(tokenizer):
    found = encoded(tokenizer, MARKED, TALK)
    theirs = tokenizer.apply_chat_template(TALK, return_dict=True, return_assistant_tokens_mask=True)
    assert (found["labels"] != IGNORED).tolist() == [bool(m) for m in theirs["assistant_masks"][1:]]


TEXT = st.text(st.sampled_from("ab \n.<|é中[/]"), min_size=1, max_size=12).filter(str.strip)


@given(st.lists(st.tuples(TEXT, TEXT), min_size=1, max_size=4), st.sampled_from(sorted(SAID)))
def test_spans_hold_the_replies_whatever_they_say(turns, name):
    talk = [{"role": r, "content": c} for pair in turns for r, c in zip(("user", "assistant"), pair, strict=True)]
    chat = Chat(SAID[name][0], {"bos_token": "<s>", "eos_token": "</s>"}, ("<s>", "</s>", *MARKS))
    text, spans = chat.spans(talk)
    assert len(spans) == len(turns)
    for (first, last), (_, reply) in zip(spans, turns, strict=True):
        said = text[first:last]
        assert reply.strip() in said
        assert said.strip().endswith(("</s>", "<|im_end|>", "<|eot_id|>"))
    assert all(a[1] <= b[0] for a, b in itertools.pairwise(spans))


def test_conversations_that_cannot_be_split_are_named_all_at_once(tokenizer):
    tokenizer.chat_template = FORGETFUL
    refusing = CHATML + "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system here') }}{% endif %}"
    talks = [TALK[1:3], TALK[1:], TALK]
    with pytest.raises(DataError, match="rows two, three: the template writes earlier turns otherwise"):
        encode_chats(Encoder(tokenizer, 99), talks, ["one", "two", "three"], [False] * 3)
    tokenizer.chat_template = refusing
    with pytest.raises(DataError, match="rows three: the template refuses it: no system here"):
        encode_chats(Encoder(tokenizer, 99), talks, ["one", "two", "three"], [False] * 3)
    unmarked = Chat(MARKED.replace("messages %}", "messages if not loop.last %}", 1), {})
    with pytest.raises(TemplateProblem):
        unmarked.spans(TALK)


def test_templates_run_in_the_sandbox():
    chat = Chat("{{ messages.__class__.__mro__ }}", {})
    with pytest.raises(TemplateProblem, match="refuses"):
        chat.render(TALK)


def test_what_is_too_long_loses_its_beginning_and_only_then_the_end_of_the_reply(tokenizer):
    full = encoded(tokenizer, CHATML, TALK)
    short = encoded(tokenizer, CHATML, TALK, max_length=24)
    assert short["truncated"] == True  # noqa: E712
    assert short["input_ids"].tolist() == full["input_ids"][-24:].tolist()
    assert short["labels"].tolist() == full["labels"][-24:].tolist()
    long = [TALK[1], {"role": "assistant", "content": "lost " * 60}]
    cut = encoded(tokenizer, CHATML, long, max_length=24)
    assert len(cut["input_ids"]) == 24
    assert (cut["labels"] != IGNORED).sum() >= 18  # three quarters at least


@given(st.lists(st.booleans(), min_size=1, max_size=60), st.integers(4, 40))
def test_some_of_the_last_reply_is_always_kept(flags, room):
    inside = np.array([False, *flags])
    start = kept(inside, room)
    assert 0 <= start <= max(0, len(inside) - room)
    if inside.any():
        ends = np.flatnonzero(inside)[-1]
        begins = ends - int(np.argmin(np.r_[inside[: ends + 1], False][ends::-1])) + 1
        assert start < max(1, begins + 1)
        assert inside[start : start + room].any()
