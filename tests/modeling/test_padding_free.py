"""Packed models against padded eager ones: the same logits and gradients, for any lengths."""

import contextlib

import numpy as np
import pytest
import torch
import transformers
from hypothesis import example, given, settings
from hypothesis import strategies as st

from nlp_pipeline.modeling.attention import FUSED_FROM, attend
from nlp_pipeline.modeling.attention_layout import Layout
from nlp_pipeline.modeling.padding_free import FAMILIES, PaddingFree, why_not

LONGEST = 24
SIZES = {
    "vocab_size": 99, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48,
    "max_position_embeddings": LONGEST + 8, "pad_token_id": 1,
}  # fmt: skip
GPT2 = {"vocab_size": 99, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": LONGEST + 8, "pad_token_id": 1}
DECODER = {**SIZES, "num_key_value_heads": 2, "bos_token_id": 0, "eos_token_id": 2}
CONFIGS = {
    "bert": transformers.BertConfig(**SIZES),
    "roberta": transformers.RobertaConfig(**SIZES),
    "camembert": transformers.CamembertConfig(**SIZES),
    "xlm-roberta": transformers.XLMRobertaConfig(**SIZES),
    "electra": transformers.ElectraConfig(**SIZES, embedding_size=16),
    "albert": transformers.AlbertConfig(**SIZES, embedding_size=16),
    "distilbert": transformers.DistilBertConfig(
        vocab_size=99, dim=32, n_layers=2, n_heads=4, hidden_dim=48, max_position_embeddings=LONGEST, pad_token_id=1
    ),
    "modernbert": transformers.ModernBertConfig(
        **SIZES, local_attention=6, global_attn_every_n_layers=2, bos_token_id=0, eos_token_id=2, cls_token_id=0,
        sep_token_id=2,
    ),
    "gpt2": transformers.GPT2Config(**GPT2, bos_token_id=0, eos_token_id=2),
    "llama": transformers.LlamaConfig(**DECODER),
    "mistral": transformers.MistralConfig(**DECODER, sliding_window=5),
    "qwen2": transformers.Qwen2Config(**DECODER),
    "qwen3": transformers.Qwen3Config(**DECODER, head_dim=8),
}  # fmt: skip
HEADS = ("AutoModelForSequenceClassification", "AutoModelForTokenClassification")
lengths = st.lists(st.integers(1, LONGEST), min_size=1, max_size=9)


@pytest.fixture(scope="module", params=[(kind, head) for kind in CONFIGS for head in HEADS], ids=lambda p: "-".join(p))
def pair(request):
    """The same weights padded and eager, and packed; without dropout."""
    kind, head = request.param
    torch.manual_seed(0)
    config = CONFIGS[kind]
    for name in ("hidden_dropout_prob", "attention_probs_dropout_prob", "dropout", "attention_dropout", "resid_pdrop",
                 "embd_pdrop", "attn_pdrop", "classifier_dropout", "classifier_dropout_prob", "seq_classif_dropout",
                 "embedding_dropout", "mlp_dropout"):  # fmt: skip
        if hasattr(config, name):
            setattr(config, name, 0.0)
    config.classifier_dropout = 0.0
    config.num_labels = 3
    cls = getattr(transformers, head)
    if type(config) not in cls._model_mapping:
        pytest.skip(f"{kind} has no such head")
    padded = cls.from_config(config, attn_implementation="eager")
    packed = cls.from_config(config, attn_implementation="eager")
    packed.load_state_dict(padded.state_dict())
    return padded.train(), packed.train(), PaddingFree(packed)


def batch_of(sizes, seed=0):
    generator = np.random.default_rng(seed)
    ids = np.full((len(sizes), max(sizes)), 1)
    for row, size in enumerate(sizes):
        ids[row, :size] = generator.integers(3, 99, size)
    mask = np.arange(max(sizes)) < np.array(sizes)[:, None]
    return {"input_ids": torch.from_numpy(ids), "attention_mask": torch.from_numpy(mask.astype(np.int64))}


def close(found, wanted, tolerance, least=1e-3):
    """Args: least: the smallest scale; what should be 0 is a rounding error of what it was computed from."""
    scale = max(least, float(wanted.detach().abs().max()))
    assert float((found - wanted).detach().abs().max()) / scale < tolerance


def assert_alike(padded, packed, inside, outputs):
    """The same outputs and gradients to 1e-5 (of what cancels, of a twentieth of the largest), the packed model's inside a context."""
    logits, gradients = [], []
    for model in (padded, packed):
        model.zero_grad()
        with inside if model is packed else contextlib.nullcontext():
            out = outputs(model)
            (out * torch.linspace(-1, 1, out.numel()).view(out.shape)).sum().backward()
        logits.append(out.detach())
        gradients.append({name: p.grad for name, p in model.named_parameters() if p.grad is not None})
    close(logits[1], logits[0], 1e-5)
    assert gradients[0].keys() == gradients[1].keys()
    least = max(float(gradient.abs().max()) for gradient in gradients[0].values()) / 20
    for name, gradient in gradients[0].items():
        close(gradients[1][name], gradient, 1e-5, least)


@settings(max_examples=15)
@given(sizes=lengths, multiple=st.sampled_from([1, 8, 32]))
@example(sizes=[1], multiple=1)
@example(sizes=[LONGEST], multiple=32)
@example(sizes=[1, LONGEST, 1, LONGEST], multiple=8)
def test_logits_and_gradients_are_those_of_the_padded_eager_model(pair, sizes, multiple):
    padded, packed, runner = pair
    batch = batch_of(sizes)

    def outputs(model):
        out = model(**batch).logits
        # What a padded position is given, nobody reads.
        return out * batch["attention_mask"][..., None] if out.dim() == 3 else out

    assert_alike(padded, packed, runner.packed(Layout(sizes, multiple)), outputs)


def test_mixed_precision_is_as_near_to_float32_as_padded(pair):
    """Also where rotary positions leave queries in float32 beside values in bfloat16."""
    padded, packed, runner = pair
    sizes = [3, LONGEST, 1, 12]
    batch = batch_of(sizes)
    exact, coarse, found = (
        gradient_of(model, batch, runner.packed(Layout(sizes, 8) if model is packed else None), mixed)
        for model, mixed in ((padded, False), (padded, True), (packed, True))
    )
    usual = float((coarse - exact).norm())
    assert usual > 0
    assert float((found - exact).norm()) < 1.5 * usual


def gradient_of(model, batch, context, mixed):
    """The whole gradient of a loss over the real positions, in one vector."""
    model.zero_grad()
    with context, torch.autocast("cpu", torch.bfloat16, enabled=mixed):
        out = model(**batch).logits.float()
        if out.dim() == 3:
            out = out * batch["attention_mask"][..., None]
        (out * torch.linspace(-1, 1, out.numel()).view(out.shape)).sum().backward()
    return torch.cat([p.grad.flatten().clone() for _, p in model.named_parameters() if p.grad is not None])


def test_outside_the_context_the_model_runs_padded(pair):
    padded, packed, _ = pair
    batch = batch_of([3, 7, 1])
    ours, theirs = (model(**batch).logits for model in (packed, padded))
    if ours.dim() == 3:
        ours, theirs = (x * batch["attention_mask"][..., None] for x in (ours, theirs))
    close(ours.detach(), theirs.detach(), 1e-5)


def test_gradient_checkpointing_recomputes_packed(pair):
    _, packed, runner = pair
    if not packed.supports_gradient_checkpointing:
        pytest.skip("has no gradient checkpointing")
    batch = batch_of([3, 7, 1, 12])
    gradients = []
    for recompute in (False, True):
        (packed.activation_checkpointing_enable if recompute else packed.activation_checkpointing_disable)()
        packed.zero_grad()
        with runner.packed(Layout([3, 7, 1, 12])):
            packed(**batch).logits.square().sum().backward()
        gradients.append({name: p.grad.clone() for name, p in packed.named_parameters() if p.grad is not None})
    packed.activation_checkpointing_disable()
    for name in gradients[0]:
        close(gradients[1][name], gradients[0][name], 1e-5)


@pytest.mark.parametrize("recompute", [False, True], ids=["", "recomputed"])
@pytest.mark.parametrize("kind", ["bert", "modernbert", "llama", "qwen3"])
def test_adapters_train_packed_as_padded(kind, recompute):
    from nlp_pipeline.config.schema import LoraConfig
    from nlp_pipeline.modeling.parameters import add_lora
    from nlp_pipeline.training.loop import recompute_activations

    sizes = [3, LONGEST, 1, 12]
    config = type(CONFIGS[kind]).from_dict(CONFIGS[kind].to_dict())
    config.num_labels = 3
    gradients, weights = [], None
    for packed in (False, True):
        torch.manual_seed(0)
        bare = transformers.AutoModelForSequenceClassification.from_config(config, attn_implementation="eager")
        runner = PaddingFree(bare) if packed else None
        model = add_lora(bare, LoraConfig(r=4), "SEQ_CLS")
        for module in model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
        if weights is None:
            # An adapter's second matrix starts at zero, which leaves its first one without a gradient.
            weights = {n: torch.randn_like(p) * 0.1 for n, p in model.named_parameters() if p.requires_grad}
        model.load_state_dict(weights, strict=False)
        if recompute:
            recompute_activations(model)
        context = runner.packed(Layout(sizes, 8)) if runner else contextlib.nullcontext()
        gradients.append(gradient_of(model.train(), batch_of(sizes), context, False))
    assert len(gradients[0]) == sum(value.numel() for value in weights.values())
    close(gradients[1], gradients[0], 1e-5)


def test_every_family_is_tested():
    assert FAMILIES.keys() == CONFIGS.keys()


@pytest.mark.parametrize(
    "config",
    [
        transformers.MPNetConfig(**SIZES),
        transformers.DebertaV2Config(**SIZES),
        transformers.T5Config(d_model=32, num_layers=1, num_heads=2, d_ff=32, vocab_size=99),
        transformers.BartConfig(d_model=32, encoder_layers=1, decoder_layers=1, vocab_size=99),
    ],
    ids=lambda config: config.model_type,
)
def test_others_say_why_they_stay_padded(config):
    with torch.device("meta"):
        model = transformers.AutoModel.from_config(config)
    assert "no packed form" in why_not(config)
    with pytest.raises(ValueError, match="no packed form"):
        PaddingFree(model)


@pytest.mark.parametrize("features", [8, 16, 32, 48])
@settings(max_examples=30)
@given(
    sizes=lengths,
    heads=st.sampled_from([(4, 4), (4, 2), (3, 1)]),
    causal=st.booleans(),
    window=st.none() | st.integers(1, 6),
)
def test_attention_equals_one_softmax_a_row(features, sizes, heads, causal, window):
    """Eight features are too few for the kernel in C: they take the way of a machine without a compiler."""
    torch.manual_seed(len(sizes))
    check_attention(Layout(sizes), heads, features, causal, window)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("window", [None, 1, 15, 50, 300])
@pytest.mark.parametrize("features", [8, 16, 64])
def test_attention_of_long_rows_equals_one_softmax_a_row(features, causal, window):
    """The kernel leaves out whole blocks of keys that none of its queries sees."""
    torch.manual_seed(0)
    check_attention(Layout([FUSED_FROM + 9, 40, 1, 250], 64), (4, 2), features, causal, window)


def test_without_the_kernel_long_rows_take_the_fused_one():
    layout = Layout([FUSED_FROM + 9, 40, 1, 250], 64)
    inputs = [torch.randn(layout.tokens, 2, 8, requires_grad=True) for _ in range(3)]
    names = {type(node).__name__ for node in nodes(attend(*inputs, layout, 0.3).grad_fn)}
    assert any("ScaledDotProduct" in name for name in names), names


def nodes(node):
    """All steps of a backward pass."""
    return [node, *(n for inner, _ in node.next_functions if inner is not None for n in nodes(inner))]


def check_attention(layout, heads, features, causal, window):
    """Result and gradients of `attend` against a plain softmax over each row."""
    inputs = [torch.randn(layout.tokens, h, features, requires_grad=True) for h in (heads[0], heads[1], heads[1])]
    found = attend(*inputs, layout, 0.3, causal=causal, window=window)
    with torch.no_grad():
        close(attend(*inputs, layout, 0.3, causal=causal, window=window), found, 1e-5)
    probe = torch.randn_like(found)
    got = torch.autograd.grad((found * probe).sum(), inputs)
    outs = []
    for start, end in zip(layout.starts, layout.ends, strict=True):
        q, k, v = (x[start:end].transpose(0, 1) for x in inputs)
        k, v = (x.repeat_interleave(heads[0] // heads[1], 0) for x in (k, v))
        scores = q @ k.mT * 0.3
        distance = torch.arange(end - start)[:, None] - torch.arange(end - start)
        hidden = (distance < 0) & causal | (distance.abs() > (window or 10**9))
        outs.append((scores.masked_fill(hidden, -torch.inf).softmax(-1) @ v).transpose(0, 1))
    wanted = torch.cat(outs)
    close(found, wanted, 1e-5)
    for ours, theirs in zip(got, torch.autograd.grad((wanted * probe).sum(), inputs), strict=True):
        close(ours, theirs, 2e-5)


def test_what_is_no_number_stays_none():
    inputs = [torch.randn(6, 2, 16) for _ in range(3)]
    inputs[0][4, 0, 3] = torch.nan
    out = attend(*inputs, Layout([3, 3]), 0.3)
    assert out[4, 0].isnan().all()
    assert out[:3].isfinite().all()


def test_bfloat16_is_exact_to_its_last_bits():
    torch.manual_seed(0)
    layout = Layout([5, 17, 1, 30])
    coarse = [torch.randn(layout.tokens, 3, 32).bfloat16().requires_grad_() for _ in range(3)]
    fine = [x.detach().float().requires_grad_() for x in coarse]
    found, wanted = attend(*coarse, layout, 0.2), attend(*fine, layout, 0.2)
    close(found.float(), wanted, 2**-7)
    probe = torch.randn_like(wanted).bfloat16()
    theirs = torch.autograd.grad((wanted * probe.float()).sum(), fine)
    for ours, other in zip(torch.autograd.grad(found, coarse, probe), theirs, strict=True):
        close(ours.float(), other, 2**-6)


def test_there_is_a_kernel_where_there_is_a_compiler(monkeypatch):
    import shutil

    from nlp_pipeline.modeling import native
    from nlp_pipeline.modeling.native_attention import usable

    if shutil.which("gcc") is None:
        pytest.skip("needs gcc")
    assert usable(torch.zeros(3, 2, 32), Layout([3]))
    assert not usable(torch.zeros(3, 2, 24), Layout([3]))
    native.library.cache_clear()
    monkeypatch.setenv("NLP_PIPELINE_NATIVE", "0")
    assert native.library() is None
    native.library.cache_clear()


def test_a_compiler_that_is_gone_leaves_the_slower_way_and_says_so(monkeypatch, caplog):
    from nlp_pipeline.modeling import native

    monkeypatch.setenv("CC", "no-such-compiler -O1")
    native.library.cache_clear()
    assert native.library() is None
    native.library.cache_clear()
    assert "no kernels of our own" in caplog.text


@pytest.mark.parametrize("features", [8, 16])
def test_types_are_brought_together_in_mixed_precision_and_never_misread(features):
    from nlp_pipeline.modeling.native_attention import NativeAttention, usable

    torch.manual_seed(0)
    layout = Layout([3, 5])
    query, key, value = (torch.randn(8, 2, features) for _ in range(3))
    with torch.autocast("cpu", torch.bfloat16):
        found = attend(query, key, value.bfloat16(), layout, 0.3)
    assert found.dtype == torch.bfloat16
    close(found.float(), attend(query, key, value, layout, 0.3), 2**-6)
    if usable(query, layout):
        with pytest.raises(TypeError, match="one type expected"):
            NativeAttention.apply(query, key, value.bfloat16(), layout, 0.3, 0.0, False, None)
