"""Finished runs as their folders look on disk: a tiny student with the files of a believable training, and its kin."""

import json
from pathlib import Path
from typing import Any

from tests.support.tiny import tiny_bart

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


# ---------------------------------------------------------------------------------------------------------------------
# Other kinds of folders

OTHER_TASK = {"train_examples": 8551, "task": "cola"}
CLASSES = {"id2label": {0: "unacceptable", 1: "acceptable"}, "label2id": {"unacceptable": 0, "acceptable": 1}}
SCORE = {"id2label": {0: "LABEL_0"}, "label2id": {"LABEL_0": 0}, "num_labels": 1}
ONLY_COLA = {key: ... for key in RESULTS if key.endswith("_mm") or key == "eval_accuracy"}
TRADEOFFS = {
    "model": "/home/ada/runs/distilbart-mnli-12-1",
    "parameters": 221940738,
    "size_mb": 887.7629,
    "zero_shot": {"accuracy": 0.6412, "macro_f1": None},
    "devices": [
        {"device": "cpu", "latency_ms_p50": 41.25, "latency_ms_p95": 47.5, "texts_per_second": 61.75},
        {"device": "cuda", "latency_ms_p50": 9.125, "latency_ms_p95": float("nan"), "texts_per_second": 2048},
    ],
}


def without_a_mismatched_set(folder: Path) -> None:
    finished_run(folder, results={key: ... for key in RESULTS if key.endswith("_mm")})


def on_part_of_the_sets(folder: Path) -> None:
    results = {"eval_samples": 9815, "eval_samples_mm": 1000, "eval_accuracy_mm": 0.875, "train_samples": 29340}
    finished_run(folder, results=results, run={"train_examples": 29340})


def on_data_that_is_not_glue(folder: Path) -> None:
    results = {"eval_samples": 300, "eval_samples_mm": 150, "train_samples": 2400}
    finished_run(folder, results=results, run={"train_examples": 2400}, arguments={"data_dir": "toy"})


def of_another_teacher(folder: Path) -> None:
    config = {"teacher_name_or_path": "minibart", "encoder_layers": 6, "decoder_layers": 3}
    layers = {"encoder_layer_ids": [0, 1, 2, 3, 4, 5], "decoder_layer_ids": [0, 2, 5]}
    finished_run(folder, config={**config, **layers}, run={"license": None})


FITTED = {"stage": "encoder states", "teacher": "facebook/bart-large-mnli", "loss": "mean squared error"}
FITTED |= {"trained": "encoder", "rows": 392702, "transfer_rows": 0, "epochs": 4.0, "steps": 12272, "run": "1a"}
LOGITS = {"stage": "logits", "teacher": "facebook/bart-large-mnli", "loss": "KL divergence", "weight": 0.75}
LOGITS |= {"temperature": 2.0, "trained": "decoder", "rows": 392702, "transfer_rows": 5000, "epochs": 2.0}
LABELS = {"stage": "labels", "loss": "cross-entropy", "trained": "all", "rows": 392702, "epochs": 0.5}


def distilled(folder: Path) -> None:
    teacher = {"teacher_model_name_or_path": "facebook/bart-large-mnli"}
    finished_run(folder, config={"distillation": [FITTED, LOGITS]}, arguments=teacher)


def distilled_and_tuned(folder: Path) -> None:
    finished_run(folder, config={"distillation": [FITTED, LOGITS, LABELS]})


def tuned_on_labels(folder: Path) -> None:
    finished_run(folder, config={"distillation": [LABELS]})


def with_an_unreadable_record(folder: Path) -> None:
    finished_run(folder, config={"distillation": "<b>no record</b>"})


def of_a_size_without_figure(folder: Path) -> None:
    finished_run(folder, config={"decoder_layers": 2, "decoder_layer_ids": [0, 6]})


def trained_from_scratch(folder: Path) -> None:
    layers = dict.fromkeys(("teacher_name_or_path", "encoder_layer_ids", "decoder_layer_ids"), ...)
    finished_run(folder, config=layers, arguments={"model_name_or_path": None, "config_name": "bart"})


def for_another_task(folder: Path) -> None:
    results = {**ONLY_COLA, "eval_matthews_correlation": 0.5412345, "eval_samples": 1043, "train_samples": 8551}
    finished_run(folder, CLASSES, {"task_name": "CoLA", "data_dir": None}, results, OTHER_TASK)


def for_regression(folder: Path) -> None:
    results = {**ONLY_COLA, "eval_pearson": 0.8812345, "eval_spearmanr": 0.87999996, "eval_samples": 1500}
    finished_run(folder, SCORE, {"task_name": "STS-B"}, results, {"task": "stsb", "train_examples": 5749})


def on_the_users_own_data(folder: Path) -> None:
    own = {"task_name": None, "data_dir": None, "train_file": "tickets.csv", "validation_file": "dev.csv"}
    results = {**dict.fromkeys((key for key in RESULTS if key.endswith("_mm")), ...), "eval_samples": 250}
    labels = {"id2label": {0: "a|b", 1: "<none>"}, "label2id": {"a|b": 0, "<none>": 1}}
    finished_run(folder, labels, own, results, {"task": "custom", "train_examples": 900})


def with_unknown_values(folder: Path) -> None:
    empty = {"eval_loss": float("nan"), "train_loss": float("inf"), "eval_accuracy_mm": float("nan"), "epoch": None}
    finished_run(folder, results=empty, run=dict.fromkeys(RUN))


def with_a_trade_off_sheet(folder: Path) -> None:
    finished_run(folder)
    write_json(folder / "tradeoffs.json", TRADEOFFS)


def of_an_evaluation_only(folder: Path) -> None:
    finished_run(folder, arguments={"do_train": False, "model_name_or_path": "facebook/bart-large-mnli"})
    for name in ("config.json", "trainer_state.json"):
        (folder / name).unlink()
    results = {key: value for key, value in RESULTS.items() if key.startswith("eval_")}
    write_json(folder / "all_results.json", results)


def with_text_results_only(folder: Path) -> None:
    of_an_evaluation_only(folder)
    (folder / "all_results.json").unlink()
    (folder / "eval_results_mnli.txt").write_text("eval_accuracy = 0.8990\neval_samples = 9815\n")
    (folder / "eval_results_mnli-mm.txt").write_text("eval_accuracy = 0.9001\neval_samples = 9832\n")


def with_a_model_only(folder: Path) -> None:
    finished_run(folder)
    for path in folder.glob("*.json"):
        if path.name != "config.json":
            path.unlink()


def with_nothing(folder: Path) -> None:
    folder.mkdir()


KINDS = [
    finished_run,
    without_a_mismatched_set,
    on_part_of_the_sets,
    on_data_that_is_not_glue,
    of_another_teacher,
    distilled,
    distilled_and_tuned,
    tuned_on_labels,
    with_an_unreadable_record,
    of_a_size_without_figure,
    trained_from_scratch,
    for_another_task,
    for_regression,
    on_the_users_own_data,
    with_unknown_values,
    with_a_trade_off_sheet,
    of_an_evaluation_only,
    with_text_results_only,
    with_a_model_only,
    with_nothing,
]
