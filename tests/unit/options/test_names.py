"""A name that is none of ours is answered by the nearest one, its meaning in the stock scripts, or what to do."""

import dataclasses
import re

import pytest
from transformers import TrainingArguments as StockArguments

from distilbart_mnli.options.fields import OPTIONS
from distilbart_mnli.options.names import CALLED_HERE, INSTEAD, OLD_NAMES
from tests.support.options import LEAST, LEAST_FLAGS, refusal, written


@pytest.mark.parametrize(
    ("key", "nearest"),
    [
        ("learning_rte", "learning_rate"),
        ("freeze_encoders", "freeze_encoder"),
        ("max_sequence_length", "max_seq_length"),
        ("pad_to_max_len", "pad_to_max_length"),
        ("evaluate_during_trainin", "evaluate_during_training"),
    ],
)
def test_an_unknown_key_is_refused_with_the_nearest_name(tmp_path, key, nearest):
    for argv in ([written(tmp_path, {**LEAST, key: 1})], [*LEAST_FLAGS, f"--{key}", "1"]):
        assert re.search(f"unknown option {key}; did you mean {nearest}\\?", refusal(argv))


def test_a_key_that_is_near_to_nothing_is_refused_all_the_same():
    message = refusal(["--zzzzqqq", "1"])
    assert "unknown option zzzzqqq" in message and "did you mean" not in message and "--help" in message
    assert "did you mean freeze_encoder?" in refusal(["--no_freeze_encoderr"])


@pytest.mark.parametrize(
    ("key", "meant"),
    [
        ("optim", "AdamW"),
        ("with_tracking", "report_to?"),
        ("ignore_mismatched_sizes", "reinit_classifier?"),
        ("lr", "learning_rate?"),
        ("epochs", "num_train_epochs?"),
        ("batch_size", "per_device_train_batch_size?"),
        ("fp16_full_eval", "fp16"),
        ("logging_strategy", "logging_steps"),
        ("ddp_timeout", "accelerate launch"),
        ("token", "HF_TOKEN"),
        ("device", "use_cpu"),
        ("teacher", "teacher_model_name_or_path?"),
        ("trust_remote_code", "no code"),
    ],
)
def test_a_name_of_the_stock_scripts_is_answered_by_its_meaning(key, meant):
    assert meant in refusal([*LEAST_FLAGS, f"--{key}", "1"])


def test_every_stock_option_that_is_not_ours_has_an_answer_of_its_own():
    """Letters alone would answer optim with dropout, ddp_timeout with it too, and fsdp with seed."""
    stock = {field.name for field in dataclasses.fields(StockArguments) if field.init}
    assert stock <= {*OPTIONS, *OLD_NAMES, *CALLED_HERE, *INSTEAD}
    assert not {*CALLED_HERE, *INSTEAD} & {*OPTIONS, *OLD_NAMES} and not CALLED_HERE.keys() & INSTEAD
    assert set(CALLED_HERE.values()) <= set(OPTIONS)


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("dropot", "dropout"),
        ("sead", "seed"),
        ("fp1", "fp16"),
        ("max_eval_sample", "max_eval_samples"),
        ("freeze_embeddings", "freeze_embeds"),
        ("foo", None),
        ("xlr", None),
        ("debugging", None),
        ("ema", None),
        ("deed", None),
        ("freeze_decoder", None),
    ],
)
def test_letters_alone_answer_only_a_slip(name, meant):
    found = re.search("did you mean (.+)[?]", refusal([*LEAST_FLAGS, f"--{name}", "1"]))
    assert (found and found[1]) == meant


@pytest.mark.parametrize(
    ("word", "meant"),
    [
        ("do_train", "--do_train?"),
        ("-seed", "--seed?"),
        ("seed=1", "--seed?"),
        ("\u2014learning_rate", "--learning_rate?"),
        ("\u2013-max-steps=5", "--max_steps?"),
        ("-lr", "learning_rate?"),
        ("please", "--help"),
    ],
)
def test_a_word_without_its_dashes_is_told_them(word, meant):
    message = refusal([*LEAST_FLAGS, word, "1"])
    assert message.endswith(meant) and "expected an --option" in message


def test_a_file_that_is_not_there_is_told_its_neighbour_and_where_it_was_looked_for(tmp_path, monkeypatch):
    written(tmp_path, LEAST)
    assert "did you mean args.json?" in refusal([str(tmp_path / "arg.json")])
    monkeypatch.chdir(tmp_path)
    assert str(tmp_path) in refusal(["elsewhere/other.json"])
