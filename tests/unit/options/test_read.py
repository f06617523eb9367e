"""What files and flags say is what run_glue.py is started with; a file that is none is refused with its line."""

import dataclasses
import json
import logging

import pytest

from distilbart_mnli.options.fields import OPTIONS, Arguments
from distilbart_mnli.options.read import parse_arguments, read_file
from tests.support.options import LEAST, LEAST_FLAGS, refusal, written
from tests.support.tiny import ROOT

# The file of 2020, key by key.
VERBATIM = {
    "model_name_or_path": "student-bart-mnli-12-6",
    "tokenizer_name": "facebook/bart-large-mnli",
    "task_name": "MNLI",
    "data_dir": "glue_data/MNLI",
    "max_seq_length": 128,
    "per_device_train_batch_size": 32,
    "per_device_eval_batch_size": 32,
    "gradient_accumulation_steps": 4,
    "learning_rate": 3e-5,
    "weight_decay": 0.01,
    "adam_beta2": 0.98,
    "attention_dropout": 0.0,
    "warmup_steps": 500,
    "freeze_encoder": True,
    "freeze_embeds": True,
    "fp16": True,
    "num_train_epochs": 2,
    "output_dir": "distilbart-mnli-12-6",
    "overwrite_output_dir": True,
    "do_train": True,
    "do_eval": True,
    "evaluate_during_training": True,
    "save_steps": 1500,
    "eval_steps": 1500,
    "logging_steps": 250,
    "logging_first_step": True,
    "run_name": "distilbart-mnli-12-6_v0",
}


# ---------------------------------------------------------------------------------------------------------------------
# Files


def test_the_file_of_2020_means_what_it_says(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    args = parse_arguments([written(tmp_path, VERBATIM)])
    expected = {key: value for key, value in VERBATIM.items() if key != "evaluate_during_training"}
    assert {key: getattr(args, key) for key in expected} == expected
    assert args.eval_strategy == "steps"
    assert sum("evaluate_during_training is now eval_strategy=steps" in line for line in caplog.messages) == 1
    others = {f.name: getattr(args, f.name) for f in dataclasses.fields(args) if f.name not in expected}
    defaults = dataclasses.asdict(Arguments())
    assert others == {**{name: defaults[name] for name in others}, "eval_strategy": "steps"}
    assert isinstance(args.num_train_epochs, float) and isinstance(args.warmup_steps, float)


@pytest.mark.parametrize("name", ["args.yaml", "args.yml"])
def test_yaml_reads_like_json_and_3e_5_is_a_number(tmp_path, name):
    text = "\n".join(f"{key}: {json.dumps(value)}" for key, value in VERBATIM.items() if key != "learning_rate")
    path = written(tmp_path, text + "\nlearning_rate: 3e-5  # a comment\n", name)
    assert parse_arguments([path]) == parse_arguments([written(tmp_path, VERBATIM)])


@pytest.mark.parametrize("number", ["3e-5", "3E-5", "+3e-05", "3.e-5", "0.00003", "'3e-5'", '"0.00003"', "30e-6"])
def test_every_way_of_writing_a_small_number_in_yaml(tmp_path, number):
    assert read_file_value(tmp_path, f"learning_rate: {number}\n") == pytest.approx(3e-5, rel=1e-12)


def read_file_value(folder, text):
    path = written(folder, text, "some.yaml")
    return parse_arguments([path, *LEAST_FLAGS]).learning_rate


def test_in_yaml_no_is_a_strategy_and_a_date_is_a_name(tmp_path):
    text = "eval_strategy: no\nsave_strategy: no\nrun_name: 2020-10-01\nfp16: no\nbf16: True\ndo_predict: yes\n"
    args = parse_arguments([written(tmp_path, text, "a.yaml"), *LEAST_FLAGS])
    assert (args.eval_strategy, args.save_strategy, args.run_name) == ("no", "no", "2020-10-01")
    assert (args.fp16, args.bf16, args.do_predict) == (False, True, True)


def test_yaml_does_not_take_every_e_for_a_number(tmp_path):
    path = written(tmp_path, "model_name_or_path: e5\ntask_name: MNLI\ndo_eval: true\noutput_dir: 1e-x\n", "a.yaml")
    args = parse_arguments([path])
    assert (args.model_name_or_path, args.output_dir) == ("e5", "1e-x")


def test_a_byte_order_mark_is_no_fault(tmp_path):
    path = tmp_path / "args.json"
    path.write_bytes(b"\xef\xbb\xbf" + json.dumps(LEAST).encode())
    assert parse_arguments([str(path)]).output_dir == "out"


def test_flags_win_over_the_file_and_an_unlucky_order_does_not_matter(tmp_path):
    args = parse_arguments([written(tmp_path, VERBATIM), "--learning_rate", "1e-5", "--no_fp16", "--eval_strategy=no"])
    assert (args.learning_rate, args.fp16, args.eval_strategy) == (1e-5, False, "no")
    assert args.weight_decay == 0.01


def test_a_flag_of_an_old_name_wins_over_the_file_s_new_name(tmp_path):
    path = written(tmp_path, {**LEAST, "warmup_steps": 500, "train_sampling_strategy": "group_by_length"})
    args = parse_arguments([path, "--warmup_ratio", "0.1", "--group_by_length", "false"])
    assert (args.warmup_steps, args.train_sampling_strategy) == (0.1, "random")


@pytest.mark.parametrize(
    ("content", "name", "message"),
    [
        ('{"a": 1,\n "seed" 2}', "a.json", "a.json, line 2: not JSON"),
        ("a: [1\nb: 2", "a.yaml", "a.yaml: line 2: not YAML"),
        ("[1, 2]", "a.json", "expected an object of options, found list"),
        ("just text", "a.yaml", "expected an object of options, found str"),
        ("", "a.yaml", "expected an object of options, found NoneType"),
        ("", "a.json", "a.json, line 1: not JSON"),
        ('{"seed": 1, "seed": 2}', "a.json", "the key seed stands twice"),
        ("seed: 1\nseed: 2\n", "a.yaml", "the key seed stands twice"),
        ("[" * 100_000, "a.json", "a.json"),
        ("!!python/object/apply:os.system ['true']", "a.yaml", "not YAML"),
        ("x: !!python/object/apply:os.system ['true']", "a.yaml", "not YAML"),
    ],
)
def test_a_file_that_is_no_file_of_options_is_refused_with_its_line(tmp_path, content, name, message):
    assert message in refusal([written(tmp_path, content, name)])


def test_a_file_without_end_is_refused(tmp_path):
    for name in ("a.json", "a.yaml"):
        (tmp_path / name).symlink_to("/dev/zero")
        assert name in refusal([str(tmp_path / name)])


def test_a_file_that_cannot_be_read_is_refused(tmp_path):
    assert "no such file" in refusal([str(tmp_path / "absent.json")])
    assert "directory" in refusal([str(tmp_path)])
    (tmp_path / "latin.json").write_bytes(b'{"run_name": "caf\xe9"}')
    assert "not UTF-8 (byte 17)" in refusal([str(tmp_path / "latin.json")])


# ---------------------------------------------------------------------------------------------------------------------
# Flags


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (["--do_predict"], True),
        (["--do_predict", "true"], True),
        (["--do_predict=True"], True),
        (["--do_predict", "yes"], True),
        (["--do_predict", "1"], True),
        (["--do-predict"], True),
        (["--do_predict", "--seed", "1"], True),
        (["--do_predict", "false"], False),
        (["--do_predict=no"], False),
        (["--no_do_predict"], False),
        (["--do_predict", "--no_do_predict"], False),
    ],
)
def test_the_ways_of_saying_true_and_false(flags, expected):
    assert parse_arguments([*LEAST_FLAGS, *flags]).do_predict is expected


@pytest.mark.parametrize(
    ("flags", "name", "value"),
    [
        (["--seed", "0"], "seed", 0),
        (["--num_train_epochs", "1.5"], "num_train_epochs", 1.5),
        (["--max_steps", "-1"], "max_steps", -1),
        (["--max_steps=10"], "max_steps", 10),
        (["--report_to", "tensorboard,trackio"], "report_to", ["tensorboard", "trackio"]),
        (["--report_to", "tensorboard", "trackio", "--seed", "1"], "report_to", ["tensorboard", "trackio"]),
        (["--report_to", "none"], "report_to", None),
        (["--candidate_labels", "sports", "the world", "--seed", "1"], "candidate_labels", ["sports", "the world"]),
        (["--candidate_labels", "sports, the world"], "candidate_labels", ["sports", "the world"]),
        (["--lr_scheduler_kwargs", '{"num_cycles": 2}'], "lr_scheduler_kwargs", {"num_cycles": 2}),
        (["--resume_from_checkpoint"], "resume_from_checkpoint", "true"),
        (["--resume_from_checkpoint", "true"], "resume_from_checkpoint", "true"),
        (["--resume_from_checkpoint", "false"], "resume_from_checkpoint", None),
        (["--resume_from_checkpoint", "out/checkpoint-5"], "resume_from_checkpoint", "out/checkpoint-5"),
        (["--cache_encoder_outputs", "false"], "cache_encoder_outputs", "false"),
        (["--run_name", "a name = with = signs"], "run_name", "a name = with = signs"),
        (["--effective_batch_size", "none"], "effective_batch_size", None),
        (["--warmup_ratio", "0.06"], "warmup_steps", 0.06),
        (["--evaluation_strategy", "epoch"], "eval_strategy", "epoch"),
        (["--no_cuda"], "use_cpu", True),
        (["--per_gpu_train_batch_size", "4"], "per_device_train_batch_size", 4),
        (["--evaluate_during_training", "false"], "eval_strategy", "no"),
        (["--overwrite_cache"], "output_dir", "out"),
    ],
)
def test_flags_have_the_types_of_their_options(flags, name, value):
    found = getattr(parse_arguments([*LEAST_FLAGS, *flags]), name)
    assert found == value and type(found) is type(value)


def test_true_in_a_file_resumes_and_chooses_the_cache(tmp_path):
    path = written(tmp_path, {**LEAST, "resume_from_checkpoint": True, "cache_encoder_outputs": False})
    args = parse_arguments([path])
    assert (args.resume_from_checkpoint, args.cache_encoder_outputs) == ("true", "false")
    path = written(tmp_path, {**LEAST, "resume_from_checkpoint": False, "cache_encoder_outputs": True})
    args = parse_arguments([path])
    assert (args.resume_from_checkpoint, args.cache_encoder_outputs) == (None, "true")


def test_the_home_folder_is_meant_wherever_a_path_stands(tmp_path, monkeypatch):
    """In a file, and in --option=~/x, where no shell expands it."""
    monkeypatch.setenv("HOME", str(tmp_path))
    endings = ("_dir", "_file", "_name_or_path", "checkpoint")
    names = [name for name, option in OPTIONS.items() if option.kind is str and name.endswith(endings)]
    names += ["config_name", "tokenizer_name", "transfer_texts"]
    assert len(names) >= 14
    values = {**dict.fromkeys(names, "~/x y"), "do_eval": True}
    flags = ["--do_eval", *(f"--{name}=~/x y" for name in names)]
    (tmp_path / "a.yaml").write_text("".join(f"{name}: {value}\n" for name, value in values.items()))
    for argv in ([written(tmp_path, values)], ["~/args.json"], ["~/a.yaml"], flags):
        args = parse_arguments(argv)
        assert {getattr(args, name) for name in names} == {f"{tmp_path}/x y"}
        assert args.do_eval


def test_the_root_args_json_is_the_file_of_2020():
    assert read_file(ROOT / "args.json") == VERBATIM
