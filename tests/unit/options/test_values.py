"""Values of a wrong type, out of range or at odds with each other are refused by name."""

import importlib.util

import pytest

from distilbart_mnli.options.read import parse_arguments
from tests.support.options import LEAST, LEAST_FLAGS, refusal, written


def test_report_to_all_means_what_is_installed():
    """As in transformers; of the three that there are here."""
    expected = [name for name in ("tensorboard", "wandb", "trackio") if importlib.util.find_spec(name)]
    assert (parse_arguments([*LEAST_FLAGS, "--report_to", "all"]).report_to or []) == expected


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("learning_rate", "fast", "a finite number, not 'fast'"),
        ("learning_rate", True, "a finite number, not true"),
        ("learning_rate", [1e-5], "a finite number, not [1e-05]"),
        ("learning_rate", None, "a finite number, not null"),
        ("learning_rate", -1e-5, "at least 0"),
        ("learning_rate", float("nan"), "a finite number"),
        ("learning_rate", 10**400, "a finite number"),
        ("seed", 1.5, "a whole number, not 1.5"),
        ("seed", "1.5", "a whole number"),
        ("seed", 2**53, "a whole number"),
        ("seed", False, "a whole number"),
        ("do_train", "maybe", "true or false, not 'maybe'"),
        ("do_train", 2, "true or false, not 2"),
        ("do_train", None, "true or false"),
        ("per_device_train_batch_size", 0, "at least 1"),
        ("adam_beta2", 1.0, "below 1"),
        ("attention_dropout", 1, "below 1"),
        ("lr_scheduler_type", "linera", "one of linear, cosine"),
        ("eval_strategy", "always", "one of no, steps, epoch"),
        ("report_to", "tensorbord", "tensorboard, wandb, trackio or none"),
        ("report_to", ["all", "wandb"], "tensorboard, wandb, trackio or none"),
        ("logging_steps", 0, "a share of all steps, not 0"),
        ("eval_steps", -0.5, "a share of all steps"),
        ("save_steps", 1.5, "a whole number of steps"),
        ("report_to", [1], "tensorboard, wandb, trackio or none"),
        ("report_to", 1, "a list of names"),
        ("candidate_labels", ["a", "b", " a"], "'a' twice"),
        ("candidate_labels", ["a", ""], "texts"),
        ("candidate_labels", [1, 2], "texts"),
        ("candidate_labels", [], "texts"),
        ("hypothesis_template", "no place", "{}"),
        ("hypothesis_template", "{} or {}", "{}"),
        ("hypothesis_template", "{:>99999999999}", "{}"),
        ("hypothesis_template", "{", "{}"),
        ("lr_scheduler_kwargs", "[1]", "an object"),
        ("hub_strategy", "every_save", "one of end"),
        ("model_name_or_path", 5, "text, not 5"),
        ("output_dir", "", "text"),
        ("output_dir", "a\0b", "text"),
        ("evaluate_during_training", "perhaps", "true or false"),
        ("group_by_length", 3, "true or false"),
        ("save_dtype", "float64", "one of float32, float16, bfloat16"),
    ],
)
def test_a_value_of_the_wrong_type_is_refused_with_key_expected_and_found(tmp_path, key, value, expected):
    message = refusal([written(tmp_path, {**LEAST, key: value})])
    assert "args.json: " in message and key in message and expected in message


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--seed"], "--seed needs a value: a whole number"),
        (["--seed", "--do_train"], "--seed needs a value"),
        (["--seed", "x"], "command line: seed must be a whole number, not 'x'"),
        (["seed", "1"], "expected an --option, found 'seed'"),
        (["-seed", "1"], "expected an --option"),
        (["--"], "expected an --option"),
        (["--do_predict", "args.json"], "found 'args.json'; a file of options goes first"),
        (["more.yaml"], "found 'more.yaml'; a file of options goes first"),
        (["--do_predict", "5"], "true or false"),
        (["--no_seed"], "seed is not true or false"),
        (["--no_do_train=true"], "takes no value"),
        (["--warmup_ratio"], "warmup_steps must be a finite number"),
        (["--warmup_ratio", "1.0"], "command line: warmup_ratio must be a share of all steps, below 1, not '1.0'"),
        (["--warmup_ratio=500"], "below 1, not '500'"),
    ],
)
def test_flags_that_make_no_sense_are_refused(flags, message):
    assert message in refusal([*LEAST_FLAGS, *flags])


TRAIN = {"do_train": True}
BEST = {"do_train": True, "load_best_model_at_end": True}


@pytest.mark.parametrize(
    ("changes", "subjects"),
    [
        ({"do_eval": False}, ["do_train", "do_eval", "do_predict", "push_to_hub"]),
        ({"output_dir": None}, ["output_dir"]),
        ({"model_name_or_path": None}, ["model_name_or_path"]),
        ({"model_name_or_path": None, "config_name": "c"}, ["model_name_or_path"]),
        ({"task_name": None}, ["task_name"]),
        ({"train_file": "a.csv"}, ["task_name", "train_file"]),
        ({"task_name": None, "train_file": "a.csv"}, ["do_eval", "validation_file"]),
        ({"fp16": True, "bf16": True}, ["fp16", "bf16"]),
        ({"warmup_steps": 1.5}, ["warmup_steps", "1.5"]),
        ({**TRAIN, "max_steps": 0}, ["max_steps"]),
        ({**TRAIN, "num_train_epochs": 0}, ["num_train_epochs"]),
        ({**TRAIN, "lr_scheduler_type": "reduce_lr_on_plateau"}, ["reduce_lr_on_plateau", "eval_strategy"]),
        ({**TRAIN, "lr_scheduler_type": "greedy"}, ["greedy", "eval_strategy"]),
        ({**TRAIN, "lr_scheduler_type": "warmup_stable_decay"}, ["num_decay_steps"]),
        ({**TRAIN, "lr_scheduler_type": "cosine_with_min_lr"}, ["min_lr"]),
        ({**TRAIN, "lr_scheduler_kwargs": {"nonsense": 1}}, ["lr_scheduler_kwargs", "nonsense"]),
        (
            {**TRAIN, "lr_scheduler_type": "cosine", "lr_scheduler_kwargs": {"num_cycles": "x"}},
            ["cosine", "lr_scheduler_kwargs"],
        ),
        ({**TRAIN, "metric_for_best_model": "accuracy"}, ["metric_for_best_model", "eval_strategy"]),
        ({**TRAIN, "early_stopping_patience": 2}, ["early_stopping_patience", "eval_strategy"]),
        (BEST, ["load_best_model_at_end", "eval_strategy"]),
        ({**BEST, "eval_strategy": "epoch"}, ["load_best_model_at_end", "save_strategy", "(epoch)", "not steps"]),
        ({**BEST, "eval_strategy": "steps", "eval_steps": 300}, ["save_steps (500)", "eval_steps (300)"]),
        (
            {**BEST, "eval_strategy": "steps", "eval_steps": 0.3, "save_steps": 0.5},
            ["save_steps (0.5)", "eval_steps (0.3)"],
        ),
        ({**BEST, "eval_strategy": "steps", "eval_steps": 0.3}, ["save_steps (500)", "eval_steps (0.3)"]),
        ({**TRAIN, "cache_encoder_outputs": True}, ["cache_encoder_outputs", "freeze_encoder true"]),
        (
            {**TRAIN, "cache_encoder_outputs": True, "freeze_encoder": True, "frozen_encoder_dropout": True},
            ["cache_encoder_outputs", "frozen_encoder_dropout false"],
        ),
        ({"hub_token": "hf_secret"}, ["hub_token", "HF_TOKEN"]),
    ],
)
def test_options_that_contradict_each_other_are_refused_by_name(tmp_path, changes, subjects):
    values = {key: value for key, value in {**LEAST, **changes}.items() if value is not None}
    found = refusal([written(tmp_path, values)])
    assert all(subject in found for subject in subjects) and "hf_secret" not in found


def test_training_from_scratch_needs_no_model():
    args = parse_arguments(["--config_name", "c", "--task_name", "MNLI", "--do_train", "--output_dir", "o"])
    assert args.model_name_or_path is None
