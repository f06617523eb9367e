"""The files of a finished run in output_dir, each written whole."""

import dataclasses
import json
import logging
import shutil
from pathlib import Path
from typing import Any

import torch

from distilbart_mnli.errors import RunError
from distilbart_mnli.files import TEMPORARY, sync, whole_file
from distilbart_mnli.model.predict import to_task_predictions, write_predictions
from distilbart_mnli.options.fields import Arguments
from distilbart_mnli.public_text import shown_path
from distilbart_mnli.train import checkpoints
from distilbart_mnli.train.loop import Training
from distilbart_mnli.train.run import Context, Evaluated

logger = logging.getLogger(__name__)

MODEL_IS_WHOLE = "the model in its folder is whole"
DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
RESULT_PATTERNS = (
    "eval_results_*.txt",
    "eval_predictions_*.tsv",
    "all_results.json",
    "training_curves.png",
    "tradeoffs.json",
)


def save_final_model(context: Context, training: Training) -> None:
    """The trained model, tokenizer, training_args.json and trainer_state.json.

    Results of an earlier run in the same folder, and its checkpoints, go once this model is whole.

    Raises:
        RunError: no space left, or weights that are not finite (the last step's were not looked at yet where there are
            no checkpoints); names the checkpoint that is whole.
    """
    folder = context.output_dir
    temporary = folder / (TEMPORARY + "model")
    whole = checkpoints.checkpoints_in(folder)

    def write(target: Path) -> None:
        context.save_model(target, DTYPES[context.args.save_dtype])
        (target / "training_args.json").write_text(shown_arguments(context.args), encoding="utf-8")
        context.write_trainer_state(target / checkpoints.STATE, training)

    safe = f"{whole[-1]} is whole" if whole else "nothing of this run is on the disk"
    if not all(bool(torch.isfinite(parameter).all()) for parameter in context.model.parameters()):
        raise RunError(f"the trained weights are not finite and were not saved; lower learning_rate; {safe}")
    checkpoints.write_whole(temporary, write, "the model", f"free some space and resume; {safe}")
    for pattern in RESULT_PATTERNS:
        for path in folder.glob(pattern):
            path.unlink()
    (temporary / checkpoints.MANIFEST).unlink()
    # An earlier model's weights first, the new ones last: a folder without them is not taken for a model, and never do
    # weights and configuration of two models stand together.
    (folder / "model.safetensors").unlink(missing_ok=True)
    for path in sorted(temporary.iterdir(), key=lambda path: path.name == "model.safetensors"):
        path.replace(folder / path.name)
    temporary.rmdir()
    sync(folder)
    checkpoints.rotate(folder, None, [], training.progress.run_id)


def shown_arguments(args: Arguments) -> str:
    """training_args.json: every option as given, without the token and without this machine's paths."""
    values = {name: value for name, value in dataclasses.asdict(args).items() if name != "hub_token"}
    shown = {
        name: shown_path(value) if isinstance(value, str) and name != "hub_model_id" else value
        for name, value in values.items()
    }
    return json.dumps(shown, indent=2) + "\n"


def write_evaluation(context: Context, results: list[Evaluated]) -> None:
    """eval_results_*.txt and eval_predictions_*.tsv of every set; the keys go into all_results.json."""
    merged: dict[str, Any] = {}
    config = context.model.config
    for split, result in zip(context.evaluation_splits, results, strict=True):
        values = {f"eval_{key}": value for key, value in sorted(result.metrics.items())}
        values["eval_samples"] = len(result.logits)
        text = "".join(f"{key} = {value}\n" for key, value in values.items())
        with whole_file(context.output_dir / f"eval_results_{result.name}.txt", MODEL_IS_WHOLE) as temporary:
            temporary.write_text(text, encoding="utf-8")
        merged.update(result.named_metrics())
        merged[f"eval_samples{result.suffix}"] = len(result.logits)
        merged[f"eval_runtime{result.suffix}"] = round(result.seconds, 4)
        predictions = to_task_predictions(result.logits, context.task, context.label_map)
        names = {"model": config.id2label, "task": context.task.label_names}
        with whole_file(context.output_dir / f"eval_predictions_{result.name}.tsv", MODEL_IS_WHOLE) as temporary:
            write_predictions(temporary, result.logits, split.labels, predictions, names)
        logger.info(
            "%s: %s", result.name, ", ".join(f"{key} {value:.4f}" for key, value in sorted(result.metrics.items()))
        )
    merge_results(context.output_dir, merged)


def training_results(context: Context, training: Training) -> dict[str, Any]:
    """The training's share of all_results.json."""
    progress = training.progress
    examples = progress.step * context.plan.effective
    full, rest = divmod(progress.step, training.steps_per_epoch)
    if context.train_examples is not None:
        examples = full * context.train_examples + rest * context.plan.effective
    return {
        "epoch": progress.step / training.steps_per_epoch,
        "train_loss": progress.loss_sum / max(progress.loss_examples, 1),
        "train_runtime": round(progress.seconds, 4),
        "train_samples": context.train_examples,
        "train_samples_per_second": round(examples / max(progress.seconds, 1e-9), 3),
        "train_steps_per_second": round(progress.step / max(progress.seconds, 1e-9), 3),
        "train_data_time_share": round(progress.data_seconds / max(progress.seconds, 1e-9), 4),
    }


def merge_results(output_dir: Path, values: dict[str, Any]) -> None:
    """Add `values` to all_results.json."""
    path = output_dir / "all_results.json"
    known: dict[str, Any] = {}
    if path.exists():
        try:
            known = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            logger.warning("%s could not be read (%s): it is written anew", path, error)
    with whole_file(path, MODEL_IS_WHOLE) as temporary:
        temporary.write_text(json.dumps({**known, **values}, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def remove_if_empty(folder: Path) -> None:
    """Undo the making of an output_dir in which nothing was written."""
    if folder.is_dir() and not any(folder.iterdir()):
        shutil.rmtree(folder)
