"""Options that depend on how long the training is: shares of all steps, as transformers takes them; and warnings."""

import pytest
from transformers import TrainerState, TrainingArguments

from distilbart_mnli.options.read import parse_arguments
from distilbart_mnli.options.rules import fit_to_length
from tests.support.tiny import ROOT

LEAST = ["--model_name_or_path", "m", "--task_name", "MNLI", "--do_train", "--output_dir", "out"]


@pytest.mark.parametrize("total", [1, 7, 8, 100, 6136])
@pytest.mark.parametrize("value", ["0.1", "0.25", "0.5", "0.999", "1", "3", "500", "1500.0"])
def test_a_share_of_all_steps_is_what_transformers_makes_of_it(tmp_path, value, total):
    names = ("logging_steps", "eval_steps", "save_steps")
    args = parse_arguments([*LEAST, *(word for name in names for word in (f"--{name}", value))])
    fit_to_length(args, total)
    stock = TrainingArguments(str(tmp_path), **dict.fromkeys(names, float(value)), eval_strategy="steps", use_cpu=True)
    state = TrainerState()
    state.compute_steps(stock, total)
    assert [getattr(args, name) for name in names] == [getattr(state, name) for name in names]
    assert all(type(getattr(args, name)) is int for name in names)


def test_steps_that_were_not_given_stay_so():
    args = parse_arguments(LEAST)
    assert fit_to_length(args, 1000) == []
    assert (args.logging_steps, args.eval_steps, args.save_steps) == (500, None, 500)


def test_the_file_of_2020_on_400_rows_is_warned_about_with_both_numbers():
    """4 steps an epoch of 32 x 4 rows, two epochs, in a warm-up of 500."""
    (remark,) = fit_to_length(parse_arguments([str(ROOT / "args.json")]), 8)
    assert all(word in remark for word in ("warmup_steps 500", "8 steps", "3e-05", "4.2e-07"))
    assert fit_to_length(parse_arguments([str(ROOT / "args.json")]), 6136) == []


@pytest.mark.parametrize(
    ("flags", "total", "count"),
    [
        (["--warmup_steps", "8"], 8, 1),
        (["--warmup_steps", "7"], 8, 0),
        (["--warmup_steps", "0.06"], 8, 0),
        (["--warmup_steps", "0"], 1, 0),
        (["--warmup_steps", "9", "--lr_scheduler_type", "constant"], 8, 0),
        (["--warmup_steps", "9", "--lr_scheduler_type", "constant_with_warmup"], 8, 1),
        (["--eval_strategy", "steps", "--eval_steps", "9"], 8, 0),
        (["--eval_strategy", "steps", "--eval_steps", "9", "--early_stopping_patience", "1"], 8, 1),
        (["--eval_strategy", "steps", "--eval_steps", "8", "--early_stopping_patience", "1"], 8, 0),
    ],
)
def test_a_training_too_short_for_its_options_is_warned_about(flags, total, count):
    assert len(fit_to_length(parse_arguments([*LEAST, *flags]), total)) == count


def test_shares_that_round_apart_are_taken():
    """Every 12.5 and every 25 of 50 steps: a best model is saved whenever it comes (unit/train/test_evaluation.py)."""
    flags = ["--load_best_model_at_end", "--eval_strategy", "steps", "--eval_steps", "0.25", "--save_steps", "0.5"]
    args = parse_arguments([*LEAST, *flags])
    assert fit_to_length(args, 50) == [] and (args.eval_steps, args.save_steps) == (13, 25)
