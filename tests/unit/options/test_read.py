"""What run_glue.py is told: files, flags, old names; and what it says when it is told something wrong."""

import dataclasses
import importlib.util
import json
import logging
import re

import pytest
from transformers import TrainingArguments as StockArguments

from distilbart_mnli.errors import InputError
from distilbart_mnli.options.fields import GROUPS, OPTIONS, Arguments, help_texts
from distilbart_mnli.options.help import MATTER
from distilbart_mnli.options.names import CALLED_HERE, INSTEAD, OLD_NAMES
from distilbart_mnli.options.read import parse_arguments, read_file
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
LEAST = {"model_name_or_path": "m", "task_name": "MNLI", "do_eval": True, "output_dir": "out"}
LEAST_FLAGS = ["--model_name_or_path", "m", "--task_name", "MNLI", "--do_eval", "--output_dir", "out"]


def written(folder, values, name="args.json") -> str:
    path = folder / name
    path.write_text(values if isinstance(values, str) else json.dumps(values), encoding="utf-8")
    return str(path)


def refusal(argv) -> str:
    with pytest.raises(InputError) as caught:
        parse_arguments(argv)
    assert "\n" not in str(caught.value)
    return str(caught.value)


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


# ---------------------------------------------------------------------------------------------------------------------
# Refused


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


# ---------------------------------------------------------------------------------------------------------------------
# Names, defaults, help


def test_names_and_defaults_are_those_of_transformers_but_for_the_ones_that_readme_lists():
    stock = {field.name: field.default for field in dataclasses.fields(StockArguments)}
    ours = {field.name: field.default for field in dataclasses.fields(Arguments)}
    shared = ours.keys() & stock.keys()
    assert len(shared) > 40

    def plain(default):
        """None, false and "none" mean the same; an enumeration is its value."""
        return None if default is False or default == "none" else getattr(default, "value", default)

    differing = {name for name in shared if plain(stock[name]) != plain(ours[name])}
    assert differing == {"train_sampling_strategy", "dataloader_num_workers", "hub_strategy"}


def shown_help(capsys, *words: str) -> str:
    with pytest.raises(SystemExit) as end:
        parse_arguments([*words])
    assert end.value.code == 0
    return capsys.readouterr().out


def test_help_is_one_screen_that_names_every_option(capsys):
    text = shown_help(capsys, "--help")
    lines = text.splitlines()
    assert len(lines) <= 60 and max(map(len, lines)) <= 119
    assert set(OPTIONS) <= set(re.findall(r"\w+", text))
    assert all(f"\n  --{name} " in text and help_texts()[name] in text for name in MATTER)
    assert shown_help(capsys, "args.json", "-h") == text


def test_help_all_has_every_option_in_one_line_under_its_group(capsys):
    lines = shown_help(capsys, "--help_all").splitlines()
    texts, titles = help_texts(), [f"{title}:" for title in GROUPS.values()]
    assert list(texts) == list(OPTIONS) == [field.name for field in dataclasses.fields(Arguments)]
    found = [line for line in lines if line.startswith("  --") or line in titles]
    expected = []
    for name in OPTIONS:
        expected += [f"{GROUPS[name]}:", name] if name in GROUPS else [name]
    assert [line.split()[0].removeprefix("--") if line not in titles else line for line in found] == expected
    for name, text in texts.items():
        (line,) = (line for line in found if line.startswith(f"  --{name} "))
        assert text in line and text.endswith((".", ")"))


def test_help_wins_wherever_it_stands(capsys):
    with pytest.raises(SystemExit):
        parse_arguments(["no-such-file.json", "--unknown", "-h"])
    assert "usage: run_glue.py" in capsys.readouterr().out


def test_the_root_args_json_is_the_file_of_2020():
    assert read_file(ROOT / "args.json") == VERBATIM
