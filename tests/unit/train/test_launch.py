"""A run gets the processes, the precision and the batch that were asked for, or stops and says why."""

import re

import pytest
from accelerate.commands.config.config_args import load_config_from_file

from distilbart_mnli.errors import InputError
from distilbart_mnli.options.fields import Arguments
from distilbart_mnli.train.launch import batch_plan, choose_precision, fell_back_to_cpu, launch_problem, size_problem
from tests.support.launch import CONFIGS

FILES = sorted(path.name for path in CONFIGS.glob("*.yaml"))


# -- precision ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "launcher", "device", "has_bf16", "expected"),
    [
        ({}, "no", "cuda", True, "no"),
        ({}, "bf16", "cuda", True, "bf16"),  # the launcher counts where the args file is silent
        ({}, "fp16", "cuda", True, "fp16"),
        ({"fp16": True}, "no", "cuda", True, "fp16"),  # `accelerate launch` always sets "no"
        ({"bf16": True}, "fp16", "cuda", True, "bf16"),
        ({"fp16": False}, "fp16", "cuda", True, "no"),  # given, although false
        ({"bf16": False}, "bf16", "cpu", True, "no"),
        ({"fp16": True}, "no", "cpu", True, "bf16"),
        ({"fp16": True}, "no", "cpu", False, "no"),
        ({}, "fp16", "cpu", False, "no"),
        ({"bf16": True}, "no", "cpu", False, "bf16"),  # slow, but asked for
        ({"fp16": True}, "no", "mps", True, "no"),
        ({"bf16": True}, "no", "xla", True, "no"),
    ],
)
def test_the_args_file_decides_about_precision_then_the_launcher_then_the_device(
    options, launcher, device, has_bf16, expected
):
    assert choose_precision(Arguments(**options), device, launcher, has_bf16) == expected


def test_fp16_without_a_gpu_gives_one_warning(caplog):
    choose_precision(Arguments(fp16=True), "cpu", "no", True)
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "bf16" in caplog.text


def test_the_launchers_fp8_is_refused():
    with pytest.raises(InputError, match="fp8"):
        choose_precision(Arguments(), "cuda", "fp8", True)


# -- batch --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("per_device", "accumulation", "effective", "processes", "expected"),
    [
        (32, 4, None, 1, (32, 4, 128)),
        (32, 4, None, 2, (32, 4, 256)),  # root args.json: what 2020 would have done
        (32, 4, 128, 2, (32, 2, 128)),
        (32, 1, 128, 4, (32, 1, 128)),
        (16, 1, 128, 8, (16, 1, 128)),
    ],
)
def test_the_effective_batch_size_wins_over_accumulation(per_device, accumulation, effective, processes, expected):
    args = Arguments(
        per_device_train_batch_size=per_device,
        gradient_accumulation_steps=accumulation,
        effective_batch_size=effective,
    )
    plan = batch_plan(args, processes)
    assert (plan.per_device, plan.accumulation, plan.effective) == expected


def test_that_it_wins_is_logged_once(caplog):
    caplog.set_level("INFO")
    args = Arguments(per_device_train_batch_size=32, gradient_accumulation_steps=4, effective_batch_size=128)
    batch_plan(args, 1)
    assert not caplog.records  # 4 accumulations is what the file says anyway
    batch_plan(args, 2)
    assert len(caplog.records) == 1
    assert "gradient_accumulation_steps to 2 (was 4)" in caplog.text


@pytest.mark.parametrize(
    ("per_device", "effective", "processes", "named"),
    [(32, 128, 3, {96, 192}), (32, 100, 1, {96, 128, 25}), (32, 16, 1, {32, 16}), (10, 128, 8, {80, 160, 8})],
)
def test_an_effective_batch_size_that_does_not_divide_names_the_nearest_that_do(
    per_device, effective, processes, named
):
    args = Arguments(per_device_train_batch_size=per_device, effective_batch_size=effective)
    with pytest.raises(InputError) as caught:
        batch_plan(args, processes)
    advice = {int(number) for number in re.findall(r"\d+", str(caught.value).split(";")[1])}
    assert advice == named
    for size in advice:  # every size that is named does divide, in one way or the other
        assert size % (per_device * processes) == 0 or effective % (size * processes) == 0


# -- launches -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("engine", ["FSDP", "DEEPSPEED", "MEGATRON_LM", "PARALLELISM_CONFIG"])
def test_sharding_engines_are_refused(engine):
    problem = launch_problem(Arguments(), {f"ACCELERATE_USE_{engine}": "true"}, gpus_here=8)
    assert problem is not None
    assert "multi_gpu.yaml" in problem


@pytest.mark.parametrize(
    ("options", "variables", "gpus", "named"),
    [
        ({"expected_num_processes": 2}, {}, 0, "expected_num_processes is 2, but this run has 1 process"),
        ({"expected_num_processes": 1}, {"WORLD_SIZE": "2"}, 0, "expected_num_processes is 1, but"),
        ({"expected_num_processes": 4}, {"OMPI_COMM_WORLD_SIZE": "2"}, 0, "this run has 2 processes"),
        ({}, {"WORLD_SIZE": "4", "LOCAL_WORLD_SIZE": "4"}, 2, "4 processes on this machine, but 2 GPUs"),
        ({}, {"ACCELERATE_MIXED_PRECISION": "no", "MASTER_ADDR": "127.0.0.1"}, 0, "started one"),
    ],
)
def test_a_launch_that_is_not_what_was_asked_is_refused(options, variables, gpus, named):
    assert named in (launch_problem(Arguments(**options), variables, gpus) or "")


@pytest.mark.parametrize(
    ("options", "variables", "gpus"),
    [
        ({}, {}, 2),
        ({"expected_num_processes": 2}, {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}, 0),
        ({"use_cpu": True}, {"WORLD_SIZE": "4", "LOCAL_WORLD_SIZE": "4"}, 2),
        ({}, {"WORLD_SIZE": "8", "LOCAL_WORLD_SIZE": "4"}, 4),
        ({"expected_num_processes": 1}, {"ACCELERATE_MIXED_PRECISION": "no", "MASTER_ADDR": "10.0.0.1"}, 0),
        ({}, {"ACCELERATE_MIXED_PRECISION": "no"}, 0),
    ],
)
def test_a_launch_that_is_what_was_asked_is_not(options, variables, gpus):
    assert launch_problem(Arguments(**options), variables, gpus) is None


@pytest.mark.parametrize(
    ("options", "variables", "device", "expected"),
    [
        ({}, {"ACCELERATE_USE_CPU": "False"}, "cpu", True),  # single_gpu.yaml where there is no GPU
        ({}, {"ACCELERATE_USE_CPU": "False"}, "cuda", False),
        ({}, {"ACCELERATE_USE_CPU": "True"}, "cpu", False),  # cpu.yaml
        ({"use_cpu": True}, {"ACCELERATE_USE_CPU": "False"}, "cpu", False),
        ({}, {"ACCELERATE_USE_CPU": "False", "WORLD_SIZE": "2"}, "cpu", False),  # multi_cpu.yaml
    ],
)
def test_a_gpu_that_was_asked_for_and_is_not_there_is_noticed(options, variables, device, expected):
    variables = {"ACCELERATE_MIXED_PRECISION": "no", **variables}
    assert fell_back_to_cpu(Arguments(**options), variables, device) == expected


def test_processes_that_did_not_find_each_other_are_noticed():
    assert "in a group of 1" in (size_problem(None, world_size=2, num_processes=1) or "")
    assert size_problem(None, world_size=2, num_processes=2) is None


# -- the files ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FILES)
def test_every_file_is_read_by_accelerate_and_explains_every_setting(name):
    text = (CONFIGS / name).read_text(encoding="utf-8")
    assert text.startswith("# ")
    assert f"--config_file accelerate_configs/{name}" in text
    assert "--expected_num_processes" in text
    config = load_config_from_file(str(CONFIGS / name))
    for line in text.splitlines():
        if line and not line.lstrip().startswith("#"):
            assert " # " in line, line
    expected = int(re.findall(r"--expected_num_processes (\d+)", text)[0])
    assert config.num_processes == expected


@pytest.mark.parametrize("name", FILES)
def test_the_batch_arithmetic_in_every_file_is_what_the_run_computes(name):
    text = (CONFIGS / name).read_text(encoding="utf-8")
    number = r"(\d+)(?: \([a-z_]+\))?"
    found = re.findall(rf"{number} x {number} x (\d+)(?: process(?:es)?| cores)? = (\d+)", text.replace("\n# ", " "))
    assert found
    for per_device, accumulation, processes, effective in [map(int, group) for group in found]:
        sizes = {"per_device_train_batch_size": per_device}
        if effective == 128:
            plan = batch_plan(Arguments(**sizes, effective_batch_size=effective), processes)
        else:  # root args.json, without effective_batch_size
            plan = batch_plan(Arguments(**sizes, gradient_accumulation_steps=accumulation), processes)
        assert (plan.accumulation, plan.effective) == (accumulation, effective)


def test_there_is_a_file_for_every_kind_of_hardware():
    assert {"cpu.yaml", "multi_cpu.yaml", "single_gpu.yaml", "multi_gpu.yaml", "multi_node.yaml", "tpu.yaml"} <= {
        *FILES
    }
