"""Conversations in the shapes that data sets give them, and what is said of those that aren't any."""

import json

import pytest

from nlp_pipeline import DataError
from nlp_pipeline.config.schema import DataConfig
from nlp_pipeline.data.columns import Column
from nlp_pipeline.data.messages import asked, conversation, conversation_problems, said
from nlp_pipeline.data.splits import load_splits

USER, REPLY = {"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}
COLUMNS = (Column("prompt", "messages"), Column("completion", "reply", required=False, is_label=True))


def load(rows):
    data = DataConfig(train="memory:train")
    return load_splits(data, COLUMNS, {"train": rows}).train


@pytest.mark.parametrize(
    "prompt",
    [
        [USER],
        json.dumps([USER]),
        [{"from": "human", "value": "a"}],
        [{"from": "human", "value": "a", "role": None, "content": None}],
        "a",
        [{**USER, "weight": 1.0}],
    ],
)
def test_messages_in_any_shape(prompt):
    found = load([{"prompt": prompt, "completion": "b"}] * 3)
    assert found["prompt"][0] == [USER]
    assert found["completion"][0] == [REPLY]


def test_a_column_may_mix_texts_and_lists():
    found = load([{"prompt": "a"}, {"prompt": [USER, REPLY, USER]}, {"prompt": "[{no list"}])
    assert found["prompt"][:2] == [[USER], [USER, REPLY, USER]]
    assert found["prompt"][2][0]["content"] == "[{no list"


def test_every_fault_is_named_with_its_rows():
    rows = [
        {"id": "fine", "prompt": [USER]},
        {"id": "role", "prompt": [{"role": "robot", "content": "a"}]},
        {"id": "role2", "prompt": [USER, {"role": "robot", "content": "a"}]},
        {"id": "calls", "prompt": [USER, {"role": "assistant", "content": None}]},
        {"id": "none", "prompt": []},
    ]
    with pytest.raises(DataError) as error:
        load(rows)
    message = str(error.value)
    assert 'the unknown role "robot" in 2 rows' in message
    assert "whose content is no text in 1 row" in message
    assert "system, developer, user, assistant, tool" in message
    rows_at_fault = [p.rows["train"] for p in error.value.problems if "role" in p or "no text" in p]
    assert rows_at_fault == [["role", "role2"], ["calls"]]
    with pytest.raises(DataError, match="is empty in 1 row"):
        load([rows[0], rows[4]])


def test_columns_of_numbers_are_refused():
    with pytest.raises(DataError, match=r"holds whole numbers.*expected a text, or a list"):
        load([{"prompt": 3}] * 2)


def test_prompt_and_reply_in_one():
    assert conversation([USER], [REPLY]) == [USER, REPLY]
    assert conversation([USER], [USER, REPLY]) == [USER, REPLY]
    assert conversation(None, [USER, REPLY]) == [USER, REPLY]
    assert asked([USER, REPLY, REPLY]) == [USER]
    assert said([USER, REPLY, USER, {**REPLY, "content": "c"}], last_only=False) == ["b", "c"]
    assert said([USER, REPLY, USER, {**REPLY, "content": "c"}], last_only=True) == ["c"]


def test_conversations_without_a_reply_are_named():
    talks = [[USER, REPLY], [USER], [REPLY], [USER, REPLY, USER], [USER, {**REPLY, "content": " "}]]
    problems = conversation_problems(talks, {}, list("abcde"), "train")
    assert [problem.rows["train"] for problem in problems] == [["c"], ["b", "e"], ["d"]]
    assert conversation_problems([[USER]] * 2, {"completion": [[REPLY], [REPLY]]}, ["a", "b"], "train") == []
