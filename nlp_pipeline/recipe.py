"""The straight line of one run: load → audit → tokenize → fit → evaluate → report → push."""

import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

from .config import Config, build_config, load_config, validate
from .config.checks import NEEDS_VALIDATION
from .config.keywords import take_keywords
from .config.loading import apply_overrides, read_recipe
from .errors import ConfigError, DataError
from .evaluation.metrics import METRICS, check_metric_names, greater_is_better, main_key
from .progress import Reporter
from .run_directory import RunDirectory
from .secrets import expanded_path
from .task_contract import TaskContract

if TYPE_CHECKING:
    from accelerate import Accelerator

    from .audit.findings import Audit
    from .data.splits import Splits
    from .data.token_table import TokenTable
    from .data.tokenization import Encoder
    from .training.train_state import TrainState


class Recipe(TaskContract):
    """A task, and a run of it.

    A task is a subclass that states what it needs and supplies the few small functions of TaskContract; the engine
    calls them and is never subclassed. An instance is one run: `run()` does everything, or call `load`, `audit`,
    `tokenize`, `fit`, `evaluate` and `report` in this order.
    """

    # Making one.

    def __init__(self, **settings: Any) -> None:
        """A run from keyword arguments.

        Sections are given as dicts (`training={"epochs": 4}`) or settings by their own name where only one section
        has it (`epochs=4`). `train`, `validation` and `test` also take DataFrames, lists of dicts, Arrow tables and
        `datasets` objects.

        Raises:
            ConfigError: with every problem at once.
        """
        raw: dict[str, Any] = {"task": self.task, "name": self.task}
        in_memory: dict[str, Any] = {}
        problems = take_keywords(raw, settings, in_memory)
        self._start(build_config(raw, problems, in_memory), in_memory)

    @classmethod
    def from_config(cls, config: Config, in_memory: Mapping[str, Any] | None = None) -> Self:
        """A run from a checked config."""
        recipe = cls.__new__(cls)
        recipe._start(config, in_memory or {})
        return recipe

    @classmethod
    def from_yaml(cls, path: str | Path, *overrides: str, **settings: Any) -> "Recipe":
        """A run from a recipe file, with `key.sub=value` overrides or keyword arguments.

        Called on Recipe itself, the file's `task` chooses the class.
        """
        from .tasks import recipe_class

        if not settings:
            config = load_config(path, overrides)
            return cls._matching(recipe_class(config)).from_config(config)
        raw, problems = read_recipe(Path(path))
        raw.setdefault("name", Path(path).stem)
        in_memory: dict[str, Any] = {}
        problems += apply_overrides(raw, overrides) + take_keywords(raw, settings, in_memory)
        config = build_config(raw, problems, in_memory)
        return cls._matching(recipe_class(config)).from_config(config, in_memory)

    @classmethod
    def from_pretrained(cls, path: str | Path, trust_remote_code: bool = False) -> "Recipe":
        """A finished run, or its `model` folder, ready to predict and evaluate.

        Args:
            path: also a registry version, `file:models/topics@production`: pulled into the cache, hashes compared.
            trust_remote_code: run Python code that the model brings or names: a recipe class, metric scripts, an
                architecture. Without it such a model is refused and nothing of it is run.
        """
        from .registry.pulling import resolve
        from .saved_model import read_saved_config
        from .tasks import recipe_class

        config, model_folder, weights, tuned = read_saved_config(resolve(path), trust_remote_code)
        recipe = cls._matching(recipe_class(config)).from_config(config)
        recipe._model_folder, recipe.weights, recipe.tuned = model_folder, weights, tuned
        recipe._code_is_named = trust_remote_code
        return recipe

    @staticmethod
    def reproduce(run: str | Path, output: str | Path | None = None, strict: bool = False) -> dict[str, Any]:
        """Check what a finished run was made from, train it again beside it, compare every bit and score.

        See `stages.reproducing.reproduce`, also for what it raises.
        """
        from .stages.reproducing import reproduce

        return reproduce(Path(run), None if output is None else Path(output), strict)

    @classmethod
    def _matching(cls, found: "type[Recipe]") -> "type[Recipe]":
        if not issubclass(found, cls):
            raise ConfigError(
                f"task: this recipe is for {found.__name__}, not for {cls.__name__}; use {found.__name__}"
            )
        return found

    @classmethod
    def check(cls, config: Config) -> list[str]:
        """Every problem that this task has with a config."""
        options, problems = validate(cls.Options, config.options, prefix="options.")
        wrong = [name for name in config.data.columns if name not in cls.column_names]
        problems += [
            f"data.columns.{name}: {cls.task} reads no such column; it reads {', '.join(sorted(cls.column_names))}"
            for name in wrong
        ]
        if options is None:
            return problems
        problems += cls.check_options(config, options)
        if not cls.generates and config.generation != type(config.generation)():
            problems.append(f"generation: {cls.task} predicts no generated texts; leave the section out")
        if config.teacher is not None and cls.soft_targets is TaskContract.soft_targets:
            problems.append(f"teacher: {cls.task} has no loss for a teacher's answers; leave it out")
        probe = cls.__new__(cls)
        probe.options = options
        metrics = config.evaluation.metrics
        problems += [f"evaluation.metrics: {p}" for p in check_metric_names(metrics or (), probe.kind)]
        if metrics is not None and not metrics:
            problems.append("evaluation.metrics: the list is empty; leave it out for the task's own metrics")
        return problems + _check_best(config, metrics or probe.default_metrics)

    def _start(self, config: Config, in_memory: Mapping[str, Any]) -> None:
        self.config = config
        self.options = self.Options.model_validate(config.options)
        self.metrics = tuple(config.evaluation.metrics or self.default_metrics)
        best = config.evaluation.best or self.metrics[0]
        self.best_metric = "loss" if best == "loss" else main_key(best)
        chosen = config.evaluation.greater_is_better
        self.greater_is_better = chosen if chosen is not None else best != "loss" and greater_is_better(best)
        self.run_directory = RunDirectory(expanded_path(config.output.dir or f"runs/{config.name or self.task}"))
        self.results: dict[str, Any] = {}
        self.reporter = Reporter(active=False)
        self._in_memory = dict(in_memory)
        self.tuned = {}
        self._model_folder: Path | None = None
        self._code_is_named = True
        """Whether the code that the config names was named by the user, not by a model folder."""
        self._accelerator: Accelerator | None = None
        self._loaded: tuple[Any, Encoder] | None = None
        self.splits: Splits | None = None
        self.audited: Audit | None = None
        self.tables: dict[str, TokenTable] = {}
        self.state: TrainState | None = None
        self.timing: dict[str, float] = {}

    # ----------------------------------------------------------------------------------------------------------
    # The straight line.

    def run(self, fresh: bool = False, progress: bool = True) -> dict[str, Any]:
        """Everything: from data to a fine-tuned, evaluated model in the run directory.

        On a directory where the same run was interrupted it goes on; where it is finished, the results are read.

        Args:
            fresh: start anew in a folder beside an existing one.
            progress: print what is going on.

        Returns:
            The results, as in `results.json`.

        Raises:
            ConfigError, DataError, ModelError: before training, with every problem at once.
        """
        from .stages.directory import choose_directory, read_finished
        from .tracking.live import tracked

        self.reporter = Reporter(active=progress and self.is_main_process)
        self.run_directory = choose_directory(self, fresh)
        began = time.monotonic()
        with self.run_directory.lock() if self.is_main_process else _nothing():
            self.load()
            finished = read_finished(self)
            if finished is None:
                if self.config.audit.enabled:
                    self.audit()
                self.tokenize()
                with tracked(self):
                    self.fit()
                    self.evaluate(seconds_before=time.monotonic() - began)
        self.results = finished or self.results
        self.report()
        if self.config.registry is not None:
            from .registry.pushing import push_after_run

            push_after_run(self, finished is not None)
        return self.results

    def load(self) -> "Splits":
        """Read the data, find the columns, make the splits, learn the labels. Reports every problem at once."""
        from .data.splits import load_splits

        data, columns = self.config.data, self.columns()
        self.splits = load_splits(data, columns, self._in_memory, stratify=self.stratify(), gather=self.gather)
        problems = self.learn(self.splits)
        if self.config.teacher is not None and (self.labels is not None or not problems):
            from .stages.teaching import teacher_problems

            problems += teacher_problems(self)
        if self.config.training.early_stopping and self.splits.validation is None:
            problems.append(f"training.early_stopping: {NEEDS_VALIDATION}")
        if problems:
            raise DataError(problems)
        counts = [f"{len(rows):,} {split}" for split, rows in self.splits.parts.items()]
        self.reporter.say(f"data: {', '.join(counts)} rows" + self.data_note())
        for note in self.splits.notes:
            self.reporter.say(f"data: {note}")
        return self.splits

    def carved(self) -> tuple[str, ...]:
        """The splits that are carved from the training rows: their labels belong to the task though none is trained."""
        data = self.config.data
        shares = {"validation": data.validation_fraction, "test": data.test_fraction}
        return tuple(split for split, share in shares.items() if share)

    def data_note(self) -> str:
        """What to add to the line that counts the rows."""
        return f", {len(self.labels)} labels" if self.labels is not None else ""

    def audit(self) -> "Audit":
        """Look through the rows for what is wrong or looks wrong, and show it; the run keeps it as `audit.json`.

        Raises:
            DataError: with every error that was found. Warnings don't stop.
        """
        from .stages.auditing import audit_before_training

        self.splits or self.load()
        self.audited = audit_before_training(self)
        return self.audited

    def tokenize(self) -> "dict[str, TokenTable]":
        """Token ids of every split, from the cache where nothing they depend on has changed."""
        from .stages.tokenizing import tokenize_splits

        self.splits or self.load()
        self.tables = tokenize_splits(self)
        return self.tables

    def fit(self) -> "TrainState":
        """Train, and save the best weights as `model/`."""
        from .stages.fitting import train_and_save

        self.tables or self.tokenize()
        return train_and_save(self)

    def evaluate(self, seconds_before: float = 0.0) -> dict[str, Any]:
        """Score the saved model on the test rows (else the validation rows), beside the baseline."""
        from .stages.scoring import score_and_write

        self.results = score_and_write(self, seconds_before)
        return self.results

    def report(self) -> dict[str, Any]:
        """Print the scores and where everything lies."""
        from .evaluation.report import show_results

        show_results(self.results, self.run_directory, self.reporter)
        return self.results

    def predict(
        self, rows: Any, progress: bool = False, ids: Sequence[Any] | None = None, exact: bool = False
    ) -> list[dict[str, Any]]:
        """Predictions in the user's words, one record a row, in the rows' order.

        Args:
            rows: a list of texts (or tuples for pairs, or token lists), of dicts, a DataFrame, a `datasets` object,
                or the path of a data file.
            ids: names of a list's rows in the output; by default their own `id`, else their numbers from 1 on.
            exact: compute in float32 throughout. Otherwise a device with bfloat16 uses that, and float32 for close
                calls: the same predictions several times faster, their scores off in the second or third place.
        """
        return [record for records in self.predict_windows(rows, progress, ids, exact) for record in records]

    def predict_windows(
        self, rows: Any, progress: bool = False, ids: Sequence[Any] | None = None, exact: bool = False
    ) -> Iterator[list[dict[str, Any]]]:
        """As `predict`, a window of `batch.window` rows at a time: for files larger than memory.

        Args:
            rows: also an open stream of lines, such as `sys.stdin`; its rows are predicted as they come.
        """
        from .stages.predicting import predict_windows

        return predict_windows(self, rows, progress, ids, exact)

    def label_errors(self, folds: int = 5, progress: bool = True) -> dict[str, Any]:
        """Training rows whose label is likely wrong, by models that were trained without them, worst first.

        See `stages.label_errors.find_label_errors`, also for what it gives and raises.
        """
        from .stages.label_errors import find_label_errors

        return find_label_errors(self, folds, progress)

    # ----------------------------------------------------------------------------------------------------------

    @property
    def accelerator(self) -> "Accelerator":
        """Accelerate's view of the devices, made when first needed."""
        if self._accelerator is None:
            from .devices import make_accelerator

            training = self.config.training
            self._accelerator = make_accelerator(training.precision, training.peer_timeout)
        return self._accelerator

    @property
    def sampling(self) -> Literal["random", "length_grouped"]:
        """How rows come into batches: plainly shuffled, unless padding makes it worth to group them by length."""
        wanted = self.config.batch.sampling
        return wanted if wanted != "auto" else "random" if self.padded_because is None else "length_grouped"

    @property
    def is_main_process(self) -> bool:
        """Whether this process prints and writes."""
        from .devices import launched_rank

        return launched_rank() == 0

    def __repr__(self) -> str:
        scores = ", ".join(f"{k}={v:.4f}" for k, v in self._main_scores().items())
        state = scores or ("fine-tuned" if self._model_folder else "not trained yet")
        return f"{type(self).__name__}(model={self.config.model.name!r}, run={str(self.run_directory.path)!r}, {state})"

    def _main_scores(self) -> dict[str, float]:
        scores = self.results.get("scores", {})
        return {k: v for k, v in scores.items() if "/" not in k and v is not None}

    def _repr_html_(self) -> str:
        import html

        cells = {"model": self.config.model.name, "run directory": self.run_directory.path} | {
            name: f"{value:.4f}" for name, value in self._main_scores().items()
        }
        body = "".join(
            f"<tr><th>{html.escape(str(k))}</th><td>{html.escape(str(v))}</td></tr>" for k, v in cells.items()
        )
        return f"<b>{type(self).__name__}</b><table>{body}</table>"


def _check_best(config: Config, metrics: Sequence[str]) -> list[str]:
    best = config.evaluation.best or metrics[0]
    if best == "loss":
        return []
    if best not in metrics:
        return [f"evaluation.best: {best!r} is not measured; choose one of {', '.join([*metrics, 'loss'])}"]
    foreign = best not in METRICS and not check_metric_names([best], "single_label")
    if foreign and config.evaluation.greater_is_better is None:
        return [f"evaluation.greater_is_better: say true or false for {best!r}, which isn't built in"]
    return []


def _nothing() -> Any:
    import contextlib

    return contextlib.nullcontext()
