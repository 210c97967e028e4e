"""The audit of a run's rows: before training, and by itself."""

import functools
import hashlib
import inspect
import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from ..audit.findings import Audit, Finding, from_problems
from ..data.assembly import ROW_ID
from ..data.problems import RowProblem
from ..errors import ConfigError, DataError, ModelError, StorageError
from ..run_directory import RunDirectory, write_text
from ..secrets import literal
from .tokenizing import make_encoder

if TYPE_CHECKING:
    from ..recipe import Recipe


def audit_before_training(recipe: "Recipe", run: RunDirectory | None = None) -> Audit:
    """The audit of the loaded rows, shown in brief; read from the run's folder where nothing has changed since.

    The main process looks, the others learn what it found.

    Args:
        run: the folder, if it isn't that of the recipe.

    Raises:
        DataError: with every error.
    """
    from ..devices import launched_processes

    make_encoder(recipe)  # on every process, so that a missing model ends them all
    audit = _found_or_read(recipe, run or recipe.run_directory) if recipe.is_main_process else Audit()
    if launched_processes() > 1:
        from ..evaluation.prediction import shared_from_main

        audit = Audit.from_json(shared_from_main(audit.to_json(), recipe.accelerator))
    if audit.errors:
        raise DataError([str(finding) for finding in audit.errors])
    return audit


def audit_alone(recipe: "Recipe") -> Audit:
    """The audit without a run: what loading the rows reports becomes findings beside all the others."""
    problems: list[str] = []
    try:
        recipe.load()
    except DataError as error:
        problems = error.problems
    if recipe.splits is None:
        _load_the_rest(recipe, problems)
    findings = from_problems(problems)
    encoded = False
    try:
        make_encoder(recipe)
        encoded = True
    except (ConfigError, ModelError) as error:
        findings += [Finding("model", "error", "", problem) for problem in error.problems]
    audit = _audit(recipe, problems, encoded)
    kept = [finding for finding in audit.findings if finding not in findings]
    both = sorted([*findings, *kept], key=lambda finding: finding.severity != "error")
    return Audit(tuple(both), audit.statistics, audit.key)


def fix_rows(recipe: "Recipe", audit: Audit, folder: Path) -> Audit:
    """Write a cleaned copy of the audited rows, and what was done to them; the audit of the copy.

    The folder gets a JSON Lines file a split, `fixes.jsonl`, and a `recipe.yaml` that trains on the copy.

    Raises:
        ConfigError: one of these files is there already.
        DataError: no rows could be loaded.
    """
    from ..audit.fixing import fix_splits, missing_rows
    from ..audit.rows import split_rows
    from ..config import load_config
    from ..tasks import recipe_class

    if recipe.splits is None:
        raise DataError([str(finding) for finding in audit.errors])
    fixed, changes = fix_splits(split_rows(recipe.splits, recipe.columns()))
    files = {split: folder / f"{split}.jsonl" for split in fixed}
    there = [str(path) for path in (*files.values(), folder / "fixes.jsonl", folder / "recipe.yaml") if path.exists()]
    if there:
        raise ConfigError(f"--fix: {', '.join(there)} would be written over; name another folder")
    try:
        for split, rows in fixed.items():
            table = rows.table.rename_columns(["id" if n == ROW_ID else n for n in rows.table.column_names])
            write_text(files[split], _lines(table.to_pylist()))
        write_text(folder / "fixes.jsonl", _lines([*missing_rows(audit.findings), *changes]))
        write_text(folder / "recipe.yaml", _cleaned_recipe(recipe, files))
    except OSError as error:
        raise StorageError(f"--fix: {folder} can't be written: {error.strerror}") from None
    config = load_config(folder / "recipe.yaml")
    return audit_alone(recipe_class(config).from_config(config))


def _lines(records: "list[dict[str, Any]]") -> str:
    return "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records)


def _cleaned_recipe(recipe: "Recipe", files: "dict[str, Path]") -> str:
    """The recipe as it was given, with the cleaned rows in place of the others."""
    settings = recipe.config.model_dump(mode="json", exclude_unset=True)
    settings["data"] = {**{split: literal(path) for split, path in files.items()}, "id_column": "id"}
    settings["name"] = f"{recipe.config.name or recipe.task}-cleaned"
    settings.pop("output", None)
    return yaml.safe_dump(settings, sort_keys=False, allow_unicode=True)


def _load_the_rest(recipe: "Recipe", problems: list[str]) -> None:
    """Load the rows that have a text and a label, so that these can be looked at; adds what is wrong with them."""
    from ..data.splits import load_splits

    lenient = recipe.config.data.model_copy(update={"missing_labels": "drop"})
    try:
        recipe.splits = load_splits(
            lenient, recipe.columns(), recipe._in_memory, stratify=recipe.stratify(), gather=recipe.gather
        )
        problems += [problem for problem in recipe.learn(recipe.splits) if problem not in problems]
    except DataError as error:
        problems += [problem for problem in error.problems if problem not in problems]
    if recipe.splits is not None:
        # What was left out in order to go on was a problem above.
        recipe.splits.notes[:] = [n for n in recipe.splits.notes if getattr(n, "check", "") != "missing"]


def _found_or_read(recipe: "Recipe", run: RunDirectory) -> Audit:
    try:
        before = Audit.from_json(json.loads(run.audit.read_text(encoding="utf-8")))
    except (OSError, ValueError, KeyError, TypeError):
        before = Audit()
    if before.key == audit_key(recipe):
        recipe.reporter.say(f"audit: as before, {len(before.warnings)} warnings in {run.audit}")
        return before
    began = time.monotonic()
    audit = _audit(recipe, (), True)
    seconds = time.monotonic() - began
    assert recipe.splits is not None
    told = [finding for finding in audit.warnings if finding.message not in recipe.splits.notes]  # notes were shown
    if told and not audit.errors:
        from ..audit.report import findings_table

        recipe.reporter.show(findings_table(told))
    recipe.reporter.say(f"audit: {len(told)} warnings in {seconds:.1f} s; every row of them in {run.audit}")
    return audit


def _audit(recipe: "Recipe", problems: "list[str] | tuple[str, ...]", encoded: bool) -> Audit:
    from ..audit.checks import Tokenization, check_splits
    from ..audit.rows import split_rows

    if recipe.splits is None:
        return Audit()
    parts = split_rows(recipe.splits, recipe.columns())
    noted = from_problems((note for note in recipe.splits.notes if isinstance(note, RowProblem)), "warning")
    tokenization = None
    if encoded:
        encoder = recipe.encoder
        tokenization = Tokenization(lambda table: recipe.preprocess(table, encoder), encoder, recipe.limits())
    settings = recipe.config.audit
    findings, statistics = check_splits(parts, settings, recipe.carved(), problems, tokenization)
    noted = [finding for finding in noted if finding.check not in settings.ignore]
    return Audit((*findings, *noted), statistics, audit_key(recipe) if encoded else "")


def audit_key(recipe: "Recipe") -> str:
    """SHA-256 over all that an audit depends on: the rows, the settings, the tokenizer, and the code."""
    config = recipe.config
    assert recipe.splits is not None
    parts = {
        "data": recipe.splits.fingerprints,
        "notes": recipe.splits.notes,
        "carved": recipe.carved(),
        "audit": config.audit.model_dump(mode="json"),
        "task": recipe.task,
        "columns": [column.name for column in recipe.columns()],
        "options": recipe.options.model_dump(mode="json"),
        "tokenizer": recipe.encoder.sha256,
        "max_length": recipe.encoder.max_length,
        "code": _code_version(),
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


@functools.cache
def _code_version() -> str:
    from ..audit import answers, characters, checks, duplicates, labels, minhash, rows, texts, tokens
    from ..data import squad

    modules = (answers, characters, checks, duplicates, labels, minhash, rows, squad, texts, tokens)
    return hashlib.sha256("".join(inspect.getsource(module) for module in modules).encode()).hexdigest()
