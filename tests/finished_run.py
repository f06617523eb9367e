"""A finished run as its folder looks on disk: a tiny student, and the result files of a believable training."""

import json
from pathlib import Path
from typing import Any

from tests.tiny import tiny_bart

ARGUMENTS: dict[str, Any] = {
    "model_name_or_path": "student-bart-mnli-12-1",
    "config_name": None,
    "task_name": "MNLI",
    "data_dir": "MNLI",
    "max_seq_length": 128,
    "max_train_samples": None,
    "max_eval_samples": None,
    "do_train": True,
    "do_eval": True,
    "output_dir": "distilbart-mnli-12-1",
    "num_train_epochs": 2.0,
    "max_steps": -1,
    "per_device_train_batch_size": 32,
    "effective_batch_size": 128,
    "learning_rate": 3e-05,
    "weight_decay": 0.01,
    "adam_beta1": 0.9,
    "adam_beta2": 0.98,
    "adam_epsilon": 1e-08,
    "max_grad_norm": 1.0,
    "lr_scheduler_type": "linear",
    "warmup_steps": 500.0,
    "label_smoothing_factor": 0.0,
    "freeze_encoder": True,
    "freeze_embeds": True,
    "frozen_encoder_dropout": False,
    "dropout": None,
    "attention_dropout": 0.0,
    "classifier_dropout": None,
    "load_best_model_at_end": False,
    "metric_for_best_model": None,
    "seed": 42,
    "fp16": None,
    "bf16": True,
    "push_to_hub": False,
    "hub_model_id": None,
    "license": None,
}
RESULTS: dict[str, Any] = {
    "epoch": 2.0,
    "eval_accuracy": 0.8708099847172695,
    "eval_accuracy_mm": 0.8753051261187957,
    "eval_loss": 0.3461270034313202,
    "eval_loss_mm": 0.3377194106578827,
    "eval_samples": 9815,
    "eval_samples_mm": 9832,
    "train_loss": 0.4017283320426941,
    "train_runtime": 5230.4127,
    "train_samples": 392702,
    "train_samples_per_second": 150.161,
    "train_steps_per_second": 1.173,
}
RUN: dict[str, Any] = {
    "command": "accelerate launch run_glue.py args/distilbart-mnli-12-1.json --data_dir /home/ada/data/MNLI "
    "--model_name_or_path=/home/ada/student-bart-mnli-12-1 --output_dir ../runs/distilbart-mnli-12-1",
    "task": "mnli",
    "versions": {"torch": "2.13.0", "transformers": "5.23.0", "accelerate": "1.15.0", "datasets": "5.2.0"},
    "hardware": "1 process on 1 machine, cuda (NVIDIA H100 80GB HBM3, 79 GiB), bf16, 32 x 4 x 1 process = 128",
    "num_processes": 1,
    "mixed_precision": "bf16",
    "effective_batch_size": 128,
    "trainable_parameters": 17848323,
    "total_parameters": 221940738,
    "license": "mit",
    "language": None,
    "train_examples": 392702,
    "tracker_urls": {"wandb": "https://wandb.ai/ada/distilbart/runs/1x2y3z"},
    "date": "2026-11-23",
}


def log_history() -> list[dict[str, Any]]:
    """6,136 optimizer steps of MNLI: losses every 250, evaluations of both sets every 1,500."""
    history: list[dict[str, Any]] = []
    for step in range(250, 6001, 250):
        epoch, falling = round(step / 3068, 4), 0.38 + 0.75 * 0.9985**step
        wobble = 0.01 * ((step // 250) % 3 - 1)
        history.append(
            {"epoch": epoch, "step": step, "loss": falling + wobble, "learning_rate": 3e-05, "grad_norm": 2.5}
        )
        if step % 1500 == 0:
            for suffix, extra in (("", 0.0), ("_mm", 0.004)):
                scores = {"accuracy": 0.8708 - 0.08 * 0.9995**step + extra, "loss": 0.345 + 0.1 * 0.9995**step - extra}
                named = {f"eval_{key}{suffix}": value for key, value in scores.items()}
                history.append({"epoch": epoch, "step": step, **named, f"eval_runtime{suffix}": 41.2})
    return history


def write_json(path: Path, values: Any) -> None:
    path.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")


def finished_run(
    folder: Path,
    config: dict[str, Any] | None = None,
    arguments: dict[str, Any] | None = None,
    results: dict[str, Any] | None = None,
    run: dict[str, Any] | None = None,
    weights: bool = False,
) -> Path:
    """Write the folder of a fine-tuned distilbart-mnli-12-1; each argument overrides or adds keys of one file.

    A value of `...` takes a key out. With `weights` the (tiny, random) model and its tokenizer are there to be loaded.
    """

    def changed(values: dict[str, Any], changes: dict[str, Any] | None) -> dict[str, Any]:
        return {key: value for key, value in {**values, **(changes or {})}.items() if value is not ...}

    folder.mkdir(parents=True, exist_ok=True)
    student = {
        "encoder_layers": 12,
        "decoder_layers": 1,
        "teacher_name_or_path": "facebook/bart-large-mnli",
        "encoder_layer_ids": list(range(12)),
        "decoder_layer_ids": [0],
    }
    model = tiny_bart(folder if weights else None, **changed(student, config))
    model.config.save_pretrained(folder)
    write_json(folder / "training_args.json", changed(ARGUMENTS, arguments))
    write_json(folder / "all_results.json", changed(RESULTS, results))
    state = {"epoch": 2.0, "global_step": 6136, "log_history": log_history(), "run": changed(RUN, run)}
    write_json(folder / "trainer_state.json", state)
    return folder
