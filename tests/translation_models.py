"""Tiny random Marian and M2M100 models, their tokenizers trained on a few lines."""

import io
import json

ENGLISH = {"river": "Fluss", "city": "Stadt", "park": "Park", "station": "Bahnhof", "harbour": "Hafen"}
ROWS = [
    {"id": f"r{i}", "source": f"it is by the {en}, gate {i % 3}", "target": f"es liegt am {de}, Tor {i % 3}"}
    for i, (en, de) in enumerate([*ENGLISH.items()] * 3)
]
SIZES = {
    "d_model": 32, "encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": 2,
    "decoder_attention_heads": 2, "encoder_ffn_dim": 64, "decoder_ffn_dim": 64, "max_position_embeddings": 64,
}  # fmt: skip


def write_pieces(path, lines, size=120):
    """Train sentencepiece on some lines; the pieces that stand for text."""
    import sentencepiece

    made = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines), model_writer=made, vocab_size=size, hard_vocab_limit=False, minloglevel=2,
        num_threads=1,
    )  # fmt: skip
    path.write_bytes(made.getvalue())
    processor = sentencepiece.SentencePieceProcessor(model_proto=made.getvalue())
    pieces = range(processor.get_piece_size())
    return [processor.id_to_piece(i) for i in pieces if not (processor.is_control(i) or processor.is_unknown(i))]


def marian_tokenizer(folder, codes=(), separate=False):
    """A MarianTokenizer whose files lie in the folder, of both languages or of each its own vocabulary."""
    from transformers import MarianTokenizer

    folder.mkdir(parents=True, exist_ok=True)
    source = write_pieces(folder / "source.spm", [row["source"] for row in ROWS])
    target = write_pieces(folder / "target.spm", [row["target"] for row in ROWS])
    first = ["</s>", "<unk>", *(f">>{code}<<" for code in codes)]
    files = {"source_spm": str(folder / "source.spm"), "target_spm": str(folder / "target.spm")}
    sides = {"vocab": source, "target_vocab_file": target} if separate else {"vocab": [*source, *target]}
    for name, pieces in sides.items():
        tokens = [*dict.fromkeys([*first, *pieces]), "<pad>"]
        # As published ones do, whose padding has one number on both sides.
        last = max(len({*first, *part}) for part in sides.values())
        path = folder / f"{name}.json"
        path.write_text(json.dumps({token: last if token == "<pad>" else i for i, token in enumerate(tokens)}))
        files[name] = str(path)
    return MarianTokenizer(**files, separate_vocabs=separate, model_max_length=64)


def m2m100_tokenizer(folder):
    """An M2M100Tokenizer whose files lie in the folder."""
    from transformers import M2M100Tokenizer
    from transformers.models.m2m_100.tokenization_m2m_100 import FAIRSEQ_LANGUAGE_CODES

    folder.mkdir(parents=True, exist_ok=True)
    pieces = write_pieces(folder / "both.model", [row[side] for row in ROWS for side in ("source", "target")])
    tokens = ["<s>", "<pad>", "</s>", "<unk>", *pieces]
    (folder / "vocab.json").write_text(json.dumps({token: i for i, token in enumerate(tokens)}))
    marks = [f"__{code}__" for code in FAIRSEQ_LANGUAGE_CODES["m2m100"]]  # the published one lists them, too
    return M2M100Tokenizer(
        str(folder / "vocab.json"), str(folder / "both.model"), additional_special_tokens=marks, model_max_length=64
    )


def write_model(folder, tokenizer, kind):
    """A random model of the tokenizer's vocabulary beside it."""
    import torch
    from transformers import AutoModelForSeq2SeqLM, M2M100Config, MarianConfig

    ids = {name: getattr(tokenizer, name) for name in ("pad_token_id", "eos_token_id")}
    if kind == "marian":
        separate = tokenizer.separate_vocabs
        config = MarianConfig(
            vocab_size=tokenizer.pad_token_id + 1, decoder_start_token_id=tokenizer.pad_token_id,
            forced_eos_token_id=tokenizer.eos_token_id, share_encoder_decoder_embeddings=not separate,
            tie_word_embeddings=not separate, **ids, **SIZES,
        )  # fmt: skip
    else:
        config = M2M100Config(
            vocab_size=len(tokenizer), decoder_start_token_id=tokenizer.eos_token_id, bos_token_id=0, **ids, **SIZES
        )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        AutoModelForSeq2SeqLM.from_config(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


def alone(folder, texts):
    """What plain transformers makes of texts: nothing is said of languages, the saved model knows them."""
    from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModelForSeq2SeqLM.from_pretrained(folder)
    made = [model.generate(**tokenizer(text, return_tensors="pt")) for text in texts]
    return [tokenizer.decode(ids[0], skip_special_tokens=True) for ids in made]
