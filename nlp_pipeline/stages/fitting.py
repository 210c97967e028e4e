"""From a pretrained model to the best fine-tuned weights in `model/`."""

import time
from functools import partial
from typing import TYPE_CHECKING, Any

from ..devices import launched_sharding
from ..errors import ConfigError
from ..startup import collect_all
from ..task_contract import TaskContract
from .directory import check_directory, identity, write_start

if TYPE_CHECKING:
    from ..recipe import Recipe
    from ..training.train_state import TrainState


def train_and_save(recipe: "Recipe") -> "TrainState":
    """Load the model, train it, put the best weights into `model/`."""
    from transformers import set_seed

    from ..modeling.parameters import merge_lora
    from ..modeling.sharding import is_sharded
    from ..training.checkpoint import load_weights
    from ..training.loop import fit
    from ..training.resuming import best_checkpoint
    from ..training.train_state import name_of

    config, run, accelerator = recipe.config, recipe.run_directory, recipe.accelerator
    if launched_sharding() and config.training.compile is True:
        raise ConfigError("training.compile: found true, which was not tested under FSDP; set it to false")
    states = config.teacher.hidden_states if config.teacher else 0.0
    if launched_sharding() and states:
        raise ConfigError(f"teacher.hidden_states: found {states}, which was not tested under FSDP; set it to 0")
    run.create()
    check_directory(recipe)
    accelerator.wait_for_everyone()  # every process has looked before the main one writes
    write_start(recipe)
    set_seed(config.training.seed)
    model, frozen = _model_to_train(recipe)
    _announce(recipe, model, frozen)
    teacher = None
    if states:
        from ..modeling.hidden_states import HiddenStates
        from .teaching import load_teacher

        teacher = HiddenStates(load_teacher(recipe, recipe.pad_token_id), model, states)
    evaluate = partial(validation_scores, recipe) if "validation" in recipe.tables else None
    began = time.monotonic()
    state = fit(
        recipe,
        model,
        recipe.tables["train"],
        config,
        run,
        accelerator,
        recipe.reporter,
        evaluate,
        identity(recipe),
        teacher,
    )
    del teacher
    recipe.timing["fit"] = time.monotonic() - began
    if accelerator.is_main_process:
        if not run.manifest.exists():  # the folder was taken away meanwhile, and made anew by a save
            write_start(recipe)
        # No process can put a model in shards together alone, but from its checkpoints it can. Adapters are merged into
        # the weights as they were before these became 4 bits.
        bare = accelerator.unwrap_model(model, keep_fp32_wrapper=False)
        if is_sharded(model) or config.model.quantization is not None:
            bare = _model_to_train(recipe, whole=True)[0]
            load_weights(best_checkpoint(run, state, recipe.reporter) or run.checkpoints / name_of(state.step), bare)
        if config.training.lora:
            bare.save_pretrained(run.path / "adapter")
        from ..saved_model import save_model

        save_model(recipe, merge_lora(bare), recipe.encoder.tokenizer, recipe.encoder.max_length, run.model)
        del bare
    accelerator.free_memory()  # it holds on to the model and the optimizer
    del model
    collect_all()  # before the saved model is loaded
    accelerator.wait_for_everyone()
    recipe.state = state
    recipe._model_folder, recipe._loaded = run.model, None
    if type(recipe).fit_rest is not TaskContract.fit_rest:
        fit_rest_of_saved(recipe)
    if recipe.tuned and "validation" in recipe.tables:
        tune_saved(recipe)
    return state


def fit_rest_of_saved(recipe: "Recipe") -> None:
    """Fit what isn't learned by gradient with the weights that were saved, and save it too."""
    from .predicting import loaded_model

    model, _ = loaded_model(recipe)
    recipe.fit_rest(model)
    if recipe.accelerator.is_main_process:
        recipe.write_beside(model, recipe.run_directory.model)
    recipe.accelerator.wait_for_everyone()


def tune_saved(recipe: "Recipe") -> None:
    """Tune the task's own numbers on the validation rows, with the weights that were saved, and save them too."""
    from ..evaluation.prediction import predict_table
    from ..saved_model import write_recipe
    from .predicting import loaded_model

    assert recipe.splits is not None
    model, _ = loaded_model(recipe)
    size = recipe.config.batch.evaluation
    found = predict_table(recipe, model, recipe.tables["validation"], recipe.accelerator, size)
    recipe.tune(found.values, recipe.splits.validation)
    figures = ", ".join(f"{name} {value:.4g}" for name, value in recipe.tuned.items())
    recipe.reporter.say(f"tuned on the validation rows: {figures}")
    if recipe.accelerator.is_main_process:
        write_recipe(recipe, recipe.encoder.max_length, recipe.run_directory.model)
    recipe.accelerator.wait_for_everyone()


def _model_to_train(recipe: "Recipe", whole: bool = False) -> "tuple[Any, int]":
    """The pretrained model with a head, frozen and adapted as configured, and how many numbers are frozen.

    Args:
        whole: not in 4 bits, whatever the recipe says.
    """
    from ..modeling.loading import load_model
    from ..modeling.parameters import add_lora, freeze, keep_every_layer, leave_alone, leave_positions

    config = recipe.config
    source = config.model.model_copy(update={"quantization": None}) if whole else config.model
    model = load_model(source, recipe.auto_model, recipe.model_settings(), recipe.pad_token_id, recipe.head_bias)
    frozen = freeze(model, config.training.freeze) + leave_alone(model, recipe.unused_parameters)
    frozen += leave_positions(model)
    if keep_every_layer(model):
        recipe.reporter.say("layerdrop: off, so that steps are alike on any number of processes")
    run_packed(recipe, model)
    if config.training.lora:
        model = add_lora(model, config.training.lora, recipe.lora_task_type)
    return model, frozen


def run_packed(recipe: "Recipe", model: Any) -> None:
    """Let a freshly loaded model run without padding where it can, and drop out cheaply on the CPU."""
    from ..modeling.dropout import use_fast_dropout
    from ..modeling.padding_free import PaddingFree

    if recipe.padded_because is None:
        PaddingFree(model)
    if recipe.accelerator.device.type == "cpu" and recipe.config.training.compile is not True:
        use_fast_dropout(model)


def _announce(recipe: "Recipe", model: Any, frozen: int) -> None:
    total = sum(p.numel() for p in model.parameters())
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    some = f", {trained / 1e6:.1f} M of them trained" if trained != total else ""
    accelerator = recipe.accelerator
    devices = f"{accelerator.num_processes} processes" if accelerator.num_processes > 1 else "one process"
    devices += ", the model in shards (FSDP)" if launched_sharding() else ""
    precision = {"no": "fp32"}.get(str(accelerator.mixed_precision), str(accelerator.mixed_precision))
    if recipe.padded_because and recipe.config.batch.padding_free is not False:
        recipe.reporter.say(f"padding: rows are padded, {recipe.padded_because}; batches hold rows of like length")
    recipe.reporter.say(
        f"model: {recipe.config.model.name}, {total / 1e6:.1f} M parameters{some}; "
        f"{precision} on {accelerator.device.type}, {devices}"
    )


def validation_scores(recipe: "Recipe", model: Any, step: int) -> dict[str, float]:
    """Metrics and loss of the weights after a step on the validation rows, the same on every process."""
    from .scoring import score_table

    assert recipe.splits is not None
    assert recipe.splits.validation is not None
    rows = recipe.splits.validation
    shown: list[dict[str, Any]] = []
    recipe.fit_rest(model)

    def keep(records: list[dict[str, Any]]) -> None:
        if not shown:  # the first window's
            shown.extend(recipe.samples(records, rows.select(range(len(records)))))

    wanted = keep if type(recipe).samples is not TaskContract.samples else None
    found = score_table(recipe, model, rows, recipe.tables["validation"], "Evaluating", wanted)
    if shown:
        recipe.run_directory.log({"step": step, "samples": shown})
        recipe.reporter.say(f"step {step:,}, a sample: {', '.join(f'{k} {v!r}' for k, v in shown[0].items())}")
    scores: dict[str, float] = found["scores"]
    return scores
