"""A new tokenizer from texts: what a model that is trained from scratch begins with."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from .errors import ConfigError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

Algorithm = Literal["bpe", "wordpiece", "unigram"]
ALGORITHMS: tuple[Algorithm, ...] = ("bpe", "wordpiece", "unigram")
Marks = Literal["none", "both", "end"]
MARKS: tuple[Marks, ...] = ("none", "both", "end")
SPECIAL = {"pad": "<pad>", "unk": "<unk>", "bos": "<s>", "eos": "</s>", "mask": "<mask>"}
BERT = {"pad": "[PAD]", "unk": "[UNK]", "bos": "[CLS]", "eos": "[SEP]", "mask": "[MASK]"}
ROWS = 1000
"""Texts that are made Python strings at once."""


def train_tokenizer(
    texts: Iterable[str],
    algorithm: Algorithm = "bpe",
    vocabulary: int = 8192,
    lowercase: bool = False,
    marks: Marks = "none",
    max_length: int = 512,
) -> "PreTrainedTokenizerFast":
    """Train a tokenizer with the tokenizers library.

    Args:
        texts: any number of texts, each read once.
        algorithm: `bpe`, byte-pair encoding of bytes (Radford et al. 2019), which spells every text; `wordpiece`, as in
            BERT (Devlin et al. 2019, arXiv:1810.04805); `unigram` (Kudo 2018, arXiv:1804.10959).
        vocabulary: tokens in all, at most.
        lowercase: take capitals for small letters.
        marks: what every text gets: `none` for a decoder, which is given them by its task; `both` a mark of beginning
            and end, for an encoder; `end` for an encoder-decoder.
        max_length: longest sequence that the model will be made for.

    Raises:
        ConfigError: a vocabulary without room for a token of the texts.
    """
    from transformers import PreTrainedTokenizerFast

    special = BERT if algorithm == "wordpiece" else SPECIAL
    tokenizer, trainer = _untrained(algorithm, vocabulary, list(special.values()), lowercase)
    try:
        tokenizer.train_from_iterator(texts, trainer)
    except Exception as error:  # the library raises nothing narrower
        raise ConfigError(f"train-tokenizer: {algorithm} with a vocabulary of {vocabulary:,}: {error}") from error
    if tokenizer.get_vocab_size() <= len(special):
        raise ConfigError(
            f"train-tokenizer: a vocabulary of {vocabulary:,} leaves no room for tokens; name a larger one"
        )
    tokenizer.post_processor = _marking(tokenizer, special, marks)
    names = {f"{name}_token": token for name, token in special.items()}
    made: PreTrainedTokenizerFast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        model_max_length=max_length,
        **names,
        **({"cls_token": special["bos"], "sep_token": special["eos"]} if marks == "both" else {}),
    )
    return made


def _untrained(algorithm: Algorithm, size: int, special: Sequence[str], lowercase: bool) -> tuple[Any, Any]:
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

    unknown = special[1]
    options: dict[str, Any] = {"vocab_size": size, "special_tokens": list(special), "show_progress": False}
    lower = [normalizers.Lowercase()] if lowercase else []
    if algorithm == "bpe":
        tokenizer = Tokenizer(models.BPE())
        tokenizer.normalizer = normalizers.Sequence([normalizers.NFC(), *lower])
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = decoders.ByteLevel()
        return tokenizer, trainers.BpeTrainer(initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), **options)
    if algorithm == "wordpiece":
        tokenizer = Tokenizer(models.WordPiece(unk_token=unknown))
        tokenizer.normalizer = normalizers.BertNormalizer(lowercase=lowercase)
        tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        tokenizer.decoder = decoders.WordPiece()
        return tokenizer, trainers.WordPieceTrainer(**options)
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), *lower])
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    return tokenizer, trainers.UnigramTrainer(unk_token=unknown, **options)


def _marking(tokenizer: Any, special: dict[str, str], marks: Marks) -> Any:
    """What puts the marks around a text, or around two."""
    from tokenizers import processors

    begin, end = special["bos"], special["eos"]
    ids = [(token, tokenizer.token_to_id(token)) for token in (begin, end)]
    single, pair = {
        "none": ("$A", "$A $B:1"),
        "both": (f"{begin} $A {end}", f"{begin} $A {end} $B:1 {end}:1"),
        "end": (f"$A {end}", f"$A {end} $B:1 {end}:1"),
    }[marks]
    return processors.TemplateProcessing(single=single, pair=pair, special_tokens=ids)


def checked(algorithm: str, marks: str) -> tuple[Algorithm, Marks]:
    """The names of an algorithm and of marks as they are known.

    Raises:
        ConfigError: there is none of that name.
    """
    found = [name for name in ALGORITHMS if name == algorithm]
    wanted = [name for name in MARKS if name == marks]
    problems = [] if found else [f"--algorithm: found {algorithm!r}, expected one of {', '.join(ALGORITHMS)}"]
    problems += [] if wanted else [f"--marks: found {marks!r}, expected one of {', '.join(MARKS)}"]
    if problems:
        raise ConfigError(problems)
    return found[0], wanted[0]


def texts_of(sources: Sequence[str], column: str | list[str] | None, format: str = "auto") -> tuple[Iterable[str], int]:
    """The texts of any data source, and their number.

    Raises:
        DataError: with everything that is wrong with the rows.
    """
    from .config.schema import DataConfig
    from .data.arrow_tables import tables_of
    from .data.columns import Column
    from .data.splits import load_rows

    data = DataConfig.model_validate({"columns": {"text": column} if column else {}, "format": format})
    names = ("content", "document", "body", "sentence", "source")
    rows = load_rows(list(sources), data, [Column("text", "text", names)])
    return (text for batch in tables_of(rows, ROWS) for text in batch.column("text").to_pylist()), len(rows)


def save_tokenizer(tokenizer: "PreTrainedTokenizerFast", folder: Path) -> None:
    """Write it into a folder of its own.

    Raises:
        ConfigError: there is something in the folder already.
    """
    if folder.exists() and any(folder.iterdir()):
        raise ConfigError(f"--output: {folder} is not empty; name another folder")
    tokenizer.save_pretrained(folder)
