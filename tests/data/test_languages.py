"""Which languages a tokenizer is found to know."""

import pytest
from transformers import MBart50Tokenizer, MBartTokenizer, NllbTokenizer

from nlp_pipeline.data.languages import Languages, language_codes


@pytest.mark.parametrize(
    ("kind", "count", "source", "target"),
    [
        (NllbTokenizer, 202, "eng_Latn", "fra_Latn"),
        (MBartTokenizer, 25, "en_XX", "ro_RO"),
        (MBart50Tokenizer, 52, "en_XX", "ro_RO"),
    ],
)
def test_tokens_of_the_users_own_are_no_languages(kind, count, source, target):
    tokenizer = kind()
    before = language_codes(tokenizer)
    assert len(before) == count
    tokenizer.add_special_tokens({"extra_special_tokens": ["<sep>"]})
    assert language_codes(tokenizer) == before
    assert before[target] == tokenizer.convert_tokens_to_ids(target)
    Languages(source, target).tell(tokenizer, needed=True)
    assert (tokenizer.src_lang, tokenizer.tgt_lang) == (source, target)
