"""The files of a finished run in output_dir, each written whole."""

import dataclasses
import datetime
import json
import logging
from pathlib import Path
from typing import Any

import accelerate
import datasets
import torch
import transformers

from distilbart_mnli.command_line import this_command
from distilbart_mnli.errors import InputError, RunError
from distilbart_mnli.files import atomic_file, finish_folder, remove, sync, temporary_folder
from distilbart_mnli.model.bart import count_parameters, to_stock
from distilbart_mnli.model.predict import to_task_predictions, write_predictions
from distilbart_mnli.options.fields import Arguments
from distilbart_mnli.public_text import public_command, shown_path
from distilbart_mnli.publish import card
from distilbart_mnli.publish.run_files import read_json
from distilbart_mnli.publish.staging import PUBLISHED_FILES
from distilbart_mnli.train import checkpoints
from distilbart_mnli.train.evaluation import EvaluationResult, EvaluationSet
from distilbart_mnli.train.launch import describe
from distilbart_mnli.train.run import Run
from distilbart_mnli.train.state import TrainState

logger = logging.getLogger(__name__)

MODEL_IS_WHOLE = "the model in its folder is whole"


def library_versions() -> dict[str, str]:
    """What a run's numbers may depend on beside the recipe."""
    return {library.__name__: library.__version__ for library in (torch, transformers, accelerate, datasets)}


def save_model(run: Run, folder: Path, dtype: torch.dtype) -> None:
    """A stock model with its tokenizer, in `dtype`."""
    stock = to_stock(run.model).to(device="cpu", dtype=dtype)
    stock.tie_weights()
    before, stock.config.dtype = stock.config.dtype, dtype
    stock.save_pretrained(folder)
    stock.config.dtype = before
    run.tokenizer.save_pretrained(folder)


def write_trainer_state(path: Path, run: Run, state: TrainState, **more: Any) -> None:
    """transformers.TrainerState's keys, `run`, and what else is given."""
    progress, args = state.progress, run.args
    values = transformers.TrainerState(
        epoch=state.epoch,
        global_step=progress.step,
        max_steps=state.steps.total,
        logging_steps=args.logging_steps,
        eval_steps=args.evaluation_interval,
        save_steps=args.save_steps,
        train_batch_size=args.per_device_train_batch_size,
        num_train_epochs=state.steps.epochs,
        log_history=progress.log_history,
        best_metric=progress.best_metric,
        best_global_step=progress.best_step,
        best_model_checkpoint=f"checkpoint-{progress.best_step}" if progress.best_step else None,
    )
    content = {**dataclasses.asdict(values), "run": run_facts(run, state), **more}
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def run_facts(run: Run, state: TrainState | None = None) -> dict[str, Any]:
    """The `run` object of trainer_state.json: what the model card says beside the options.

    Args:
        state: None: of a run that has not begun.
    """
    start, (trainable, total) = run.loaded.card, count_parameters(run.model)
    return {
        "id": state.progress.run_id if state else None,
        "command": public_command(this_command()),
        "task": run.task.name,
        "versions": library_versions(),
        "hardware": describe(run.accelerator, run.device, run.plan),
        "num_processes": run.accelerator.num_processes,
        "mixed_precision": run.precision,
        "effective_batch_size": run.plan.effective,
        "trainable_parameters": trainable,
        "total_parameters": total,
        "license": start.get("license") or run.args.license,
        "license_name": start.get("license_name"),
        "license_link": start.get("license_link"),
        "language": start.get("language"),
        "train_examples": state.train_examples if state else None,
        "tracker_urls": state.tracker_urls if state else {},
        "date": datetime.date.today().isoformat(),
    }


def save_final_model(run: Run, state: TrainState) -> None:
    """The trained model, tokenizer, training_args.json and trainer_state.json.

    Results of an earlier run in the same folder, and its checkpoints, go once this model is whole.

    Raises:
        RunError: no space left, or weights that are not finite (the last step's were not looked at yet where there are
            no checkpoints); names the checkpoint that is whole.
    """
    folder, run_id = run.output_dir, state.progress.run_id
    if not all(bool(torch.isfinite(parameter).all()) for parameter in run.model.parameters()):
        last = checkpoints.last_good_checkpoint(folder, run_id)
        raise RunError(f"the trained weights are not finite and were not saved; {last}; lower learning_rate")
    with (
        checkpoints.disk_errors("the model", folder, checkpoints.when_there_is_space(folder, run_id)),
        temporary_folder(folder, "model") as temporary,
    ):
        save_model(run, temporary, getattr(torch, run.args.save_dtype))
        (temporary / "training_args.json").write_text(shown_arguments(run.args), encoding="utf-8")
        write_trainer_state(temporary / checkpoints.STATE, run, state)
        finish_folder(temporary)
        # An earlier model's weights first, the new ones last: a folder without them is not taken for a model, and
        # never do weights and configuration, or tokenizer, or results of two models stand together.
        for pattern in ("model.safetensors", "eval_predictions_*.tsv", *PUBLISHED_FILES):
            for path in folder.glob(pattern):
                if path.name != card.FILE_NAME:  # it may hold a person's words, and says whose card it is
                    remove(path)
        for path in sorted(temporary.iterdir(), key=lambda path: path.name == "model.safetensors"):
            path.replace(folder / path.name)
        sync(folder)
    checkpoints.rotate(folder, None, [], run_id)


def shown_arguments(args: Arguments) -> str:
    """training_args.json: every option as given, without the token and without this machine's paths."""
    shown = {
        name: shown_path(value) if isinstance(value, str) and name != "hub_model_id" else value
        for name, value in args.without_token().items()
    }
    return json.dumps(shown, indent=2) + "\n"


def write_evaluation(run: Run, sets: list[EvaluationSet], results: list[EvaluationResult]) -> None:
    """eval_results_*.txt and eval_predictions_*.tsv of every set; the keys go into all_results.json."""
    merged: dict[str, Any] = {}
    id2label = run.model.config.id2label
    for evaluation_set, result in zip(sets, results, strict=True):
        metrics = dict(sorted(result.metrics.items()))
        values = {**{f"eval_{key}": value for key, value in metrics.items()}, "eval_samples": len(result.logits)}
        with atomic_file(run.output_dir / f"eval_results_{result.name}.txt", MODEL_IS_WHOLE) as temporary:
            temporary.write_text("".join(f"{key} = {value}\n" for key, value in values.items()), encoding="utf-8")
        merged |= result.named_metrics()
        merged[f"eval_samples{result.suffix}"] = len(result.logits)
        merged[f"eval_runtime{result.suffix}"] = round(result.seconds, 4)
        labels, predictions = evaluation_set.tokens.labels, to_task_predictions(result.logits, run.task, run.label_map)
        with atomic_file(run.output_dir / f"eval_predictions_{result.name}.tsv", MODEL_IS_WHOLE) as temporary:
            index = evaluation_set.texts.index
            write_predictions(temporary, result.logits, labels, predictions, id2label, run.task, index)
        logger.info("%s: %s", result.name, ", ".join(f"{key} {value:.4f}" for key, value in metrics.items()))
    foreign = not run.args.do_train and not evaluates_own_model(run.args)
    beside = foreign and (run.output_dir / "model.safetensors").exists()  # the card of that model must not show them
    merge_results(run.output_dir, {**merged, "eval_model": shown_path(run.loaded.name) if beside else None})


def evaluates_own_model(args: Arguments) -> bool:
    """Whether what is evaluated is the model in output_dir, trained before."""
    place, folder = Path(args.model_name_or_path or ""), Path(args.output_dir or "")
    return args.do_eval and not args.do_train and place.is_dir() and place.resolve() == folder.resolve()


def training_results(run: Run, state: TrainState) -> dict[str, Any]:
    """The training's share of all_results.json."""
    progress = state.progress
    full, rest = divmod(progress.step, state.steps.per_epoch)
    examples = full * state.train_examples + rest * run.plan.effective
    return {
        "epoch": state.epoch,
        "train_loss": progress.loss_sum / max(progress.loss_examples, 1),
        "train_runtime": round(progress.seconds, 4),
        "train_samples": state.train_examples,
        "train_samples_per_second": round(examples / max(progress.seconds, 1e-9), 3),
        "train_steps_per_second": round(progress.step / max(progress.seconds, 1e-9), 3),
        "train_data_time_share": round(progress.data_seconds / max(progress.seconds, 1e-9), 4),
    }


def merge_results(output_dir: Path, values: dict[str, Any]) -> None:
    """Add `values` to all_results.json; a key whose value is None goes."""
    path = output_dir / "all_results.json"
    known: dict[str, Any] = {}
    try:
        known = read_json(path)
    except InputError as error:
        logger.warning("%s; it is written anew", error)
    merged = {key: value for key, value in {**known, **values}.items() if value is not None or key not in values}
    with atomic_file(path, MODEL_IS_WHOLE) as temporary:
        temporary.write_text(json.dumps(merged, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def remove_if_empty(folder: Path) -> None:
    """Undo the making of an output_dir in which nothing was written."""
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()
