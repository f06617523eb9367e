"""What the run stands on: processes, devices, precision and the batch arithmetic.

    accelerator = make_accelerator(args)             # refuses a launch that did not give what was asked
    plan = batch_plan(args, accelerator.num_processes)
    logger.info(describe(accelerator, device_for(accelerator), plan))
    lock = lock_output_dir(output_dir, accelerator.is_main_process)      # from processes.py

The launchers fail silently in ways that cost a night: a "two-process CPU" launch that runs one process, two processes
that each believe they are the first and write the same files, four processes on two GPUs. All of it shows in the
environment or in the process group, so it is compared here, once, before anything is read.
"""

import atexit
import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta

import torch
from accelerate import Accelerator
from accelerate.utils import (
    DistributedDataParallelKwargs,
    GradientAccumulationPlugin,
    InitProcessGroupKwargs,
)

from distilbart_mnli.errors import InputError
from distilbart_mnli.model.kernels import supports_bf16
from distilbart_mnli.options.fields import Arguments
from distilbart_mnli.processes import cpu_group, follow_launcher, leave_groups, spoken_once, warn_once
from distilbart_mnli.train.device import FLOAT32_ONLY, Device, choose_device_type, counted

logger = logging.getLogger(__name__)

# How long one collective on the device may take. torch gives NCCL 10 minutes; a slow disk can take more at the start.
DEVICE_TIMEOUT = timedelta(hours=1)

ENGINES = {
    "ACCELERATE_USE_FSDP": "FSDP",
    "ACCELERATE_USE_DEEPSPEED": "DeepSpeed",
    "ACCELERATE_USE_MEGATRON_LM": "Megatron-LM",
    "ACCELERATE_USE_PARALLELISM_CONFIG": "a parallelism_config",
}
# Set by torchrun and `accelerate launch`; the others by the mpirun of Intel MPI, Open MPI and MVAPICH.
WORLD_SIZE_NAMES = ("WORLD_SIZE", "PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE")


# ---------------------------------------------------------------------------------------------------------------------
# The accelerator


def make_accelerator(args: Arguments) -> Accelerator:
    """The Accelerator of this process, after comparing what was asked for with what there is. Call it once.

    It asks for the CPU itself where there are several processes and no accelerator (or with `use_cpu`), so that
    accelerate_configs/multi_cpu.yaml gives real gloo ranks. Accumulation is the training loop's own affair, so
    accelerate's stays at 1; and `torch_compile` decides about compiling, not the launcher's dynamo_backend.

    Raises:
        InputError: FSDP, DeepSpeed, Megatron-LM or fp8 asked for; another number of processes than
            `expected_num_processes`; more processes than GPUs; several processes asked for that did not find each
            other. The first process of each machine has the message; the others raise a CommandError without one.
    """
    world_size = requested_processes(os.environ)
    problem = launch_problem(args, os.environ, gpus_here=torch.cuda.device_count())
    if problem:
        raise spoken_once(problem)
    device_type = choose_device_type(_asks_for_cpu(args, os.environ), world_size)
    if fell_back_to_cpu(args, os.environ, device_type):
        warn_once(
            "no GPU here: this run computes on the CPU; accelerate_configs/cpu.yaml or --use_cpu true asks for that"
        )
    precision = choose_precision(args, device_type)
    if os.environ.get("ACCELERATE_DYNAMO_BACKEND", "no").lower() != "no":
        warn_once("the launcher's dynamo_backend is not used; --torch_compile true compiles the model")
    accelerator = Accelerator(
        cpu=device_type == "cpu",
        mixed_precision=precision,
        dynamo_backend="no",
        # A plugin, because ACCELERATE_GRADIENT_ACCUMULATION_STEPS would win over the plain argument, and backward()
        # would then divide a loss that is already weighted by examples.
        gradient_accumulation_plugin=GradientAccumulationPlugin(num_steps=1, sync_with_dataloader=False),
        kwargs_handlers=[
            # Every trainable parameter gets a gradient in every step. Nothing is said about buffers (BART has none, so
            # none are sent in forward): torch 2.13 warns about the option that accelerate has for them.
            DistributedDataParallelKwargs(find_unused_parameters=False, gradient_as_bucket_view=True),
            InitProcessGroupKwargs(timeout=DEVICE_TIMEOUT),
        ],
    )
    problem = size_problem(args.expected_num_processes, world_size, accelerator.num_processes)
    if problem:
        raise spoken_once(problem)
    gpus = torch.cuda.device_count()
    if accelerator.num_processes == 1 and accelerator.device.type == "cuda" and gpus > 1:
        warn_once(
            f"{gpus} GPUs here, and one process: this run uses one. For all of them: accelerate launch --config_file "
            f"accelerate_configs/multi_gpu.yaml --num_processes {gpus} run_glue.py ... --expected_num_processes {gpus}"
        )
    cpu_group()  # made here because making it is itself a step that all processes take together
    atexit.register(leave_groups)
    follow_launcher(os.environ)
    return accelerator


def requested_processes(environment: Mapping[str, str]) -> int:
    """How many processes the launcher says there are, over all machines; 1 without a launcher."""
    for name in WORLD_SIZE_NAMES:
        if environment.get(name, "").isdigit():
            return int(environment[name])
    return 1


def fell_back_to_cpu(args: Arguments, environment: Mapping[str, str], device_type: str) -> bool:
    """Whether a launcher was to start one process on a GPU, as with single_gpu.yaml, and there is none.

    Several processes without a GPU are what multi_cpu.yaml asks for, in the same words as multi_gpu.yaml.
    """
    asked_for_cpu = _asks_for_cpu(args, environment)
    launched_alone = "ACCELERATE_MIXED_PRECISION" in environment and requested_processes(environment) == 1
    return device_type == "cpu" and launched_alone and not asked_for_cpu


def launch_problem(args: Arguments, environment: Mapping[str, str], gpus_here: int) -> str | None:
    """What is wrong with the launch, as far as the environment shows it before the processes have met; else None."""
    for name, engine in ENGINES.items():
        if _is_true(environment.get(name)):
            return (
                f"the launcher asks for {engine}, which is not supported: the model fits on one device, so data "
                "parallel is what it needs; use accelerate_configs/multi_gpu.yaml"
            )
    world_size, expected = requested_processes(environment), args.expected_num_processes
    problem = size_problem(expected, world_size, world_size)
    if problem:
        return problem
    local_size = int(environment.get("LOCAL_WORLD_SIZE", "1"))
    on_cpu = _asks_for_cpu(args, environment)
    if 0 < gpus_here < local_size and not on_cpu:
        return (
            f"{counted(local_size)} on this machine, but {counted(gpus_here, 'GPU')}: start one process a GPU "
            "(num_processes), or compute on the CPU (--use_cpu)"
        )
    # The single-process launcher sets MASTER_ADDR if, and only if, its file or flags say num_processes > 1.
    launched_alone = "ACCELERATE_MIXED_PRECISION" in environment and world_size == 1
    if launched_alone and "MASTER_ADDR" in environment and "RANK" not in environment and expected is None:
        return (
            "the launcher was asked for several processes and started one (distributed_type MULTI_CPU and --cpu do); "
            "use accelerate_configs/multi_cpu.yaml, or say --expected_num_processes 1 if one is right"
        )
    return None


def size_problem(expected: int | None, world_size: int, num_processes: int) -> str | None:
    """What is wrong with the number of processes: expected by the user, said by the launcher, found; else None."""
    if expected is not None and expected != num_processes:
        hint = "check num_processes in the launcher's file"
        if num_processes == 1:
            hint = (
                "distributed_type MULTI_CPU and --cpu start one process; accelerate_configs/multi_cpu.yaml starts more"
            )
        return f"expected_num_processes is {expected}, but this run has {counted(num_processes)}; {hint}"
    if world_size > num_processes:
        return (
            f"the launcher started {counted(world_size)}, but this one is in a group of {num_processes}: each would "
            "believe to be the first; launch with one of the files in accelerate_configs/"
        )
    return None


# ---------------------------------------------------------------------------------------------------------------------
# Precision


def choose_precision(
    args: Arguments, device_type: str, launcher: str | None = None, has_bf16: bool | None = None
) -> str:
    """ "no" (float32), "bf16" or "fp16": the autocast type of training and evaluation. Weights stay float32.

    Args:
        device_type: of the device, as `torch.device.type` names it.
        launcher: the launcher's mixed precision, which counts only if neither `fp16` nor `bf16` is given (default:
            ACCELERATE_MIXED_PRECISION, which `accelerate launch` always sets).
        has_bf16: whether the device computes bf16 itself, without emulation (default: asked of the device).

    Raises:
        InputError: for fp8 or any other value of the launcher.
    """
    if launcher is None:
        launcher = os.environ.get("ACCELERATE_MIXED_PRECISION", "no")
    if args.fp16 or args.bf16:
        asked = "fp16" if args.fp16 else "bf16"
    elif args.fp16 is not None or args.bf16 is not None:
        asked = "no"
    else:
        asked = launcher.lower()
    if asked not in ("no", "fp16", "bf16"):
        raise InputError(f"mixed precision {asked!r} is not supported; choose no, fp16 or bf16")
    if asked == "no":
        return asked
    if device_type in FLOAT32_ONLY:
        warn_once(f"{asked} is not used on {FLOAT32_ONLY[device_type]}")
        return "no"
    if has_bf16 is None:
        has_bf16 = supports_bf16(device_type)
    if asked == "fp16" and device_type == "cpu":
        if has_bf16:
            warn_once("fp16 needs a GPU: this run computes in bf16, which this processor has")
            return "bf16"
        warn_once("fp16 needs a GPU, and this processor has no bf16: this run computes in float32")
        return "no"
    if asked == "bf16" and not has_bf16:
        faster = "--fp16 true --bf16 false" if device_type == "cuda" else "--bf16 false"
        warn_once(f"this {device_type} device emulates bf16, slowly; {faster} is faster")
    return asked


# ---------------------------------------------------------------------------------------------------------------------
# Batch


@dataclass(frozen=True)
class BatchPlan:
    """How the examples of one optimizer step are cut: per_device x accumulation x processes = effective."""

    per_device: int
    accumulation: int
    effective: int


def batch_plan(args: Arguments, num_processes: int) -> BatchPlan:
    """`effective_batch_size`, where given, wins over `gradient_accumulation_steps`, with one log line.

    Raises:
        InputError: it is no multiple of per_device_train_batch_size x processes; names the nearest sizes that are, and
            the nearest per-device size that would do.
    """
    per_device = args.per_device_train_batch_size
    together = per_device * num_processes
    if args.effective_batch_size is None:
        return BatchPlan(per_device, args.gradient_accumulation_steps, together * args.gradient_accumulation_steps)
    effective = args.effective_batch_size
    accumulation, rest = divmod(effective, together)
    if rest:
        lower, upper = accumulation * together, (accumulation + 1) * together
        nearest = f"{lower} or {upper}" if lower else str(upper)
        fitting = [size for size in range(1, per_device) if effective % (size * num_processes) == 0]
        instead = f", or per_device_train_batch_size {fitting[-1]}" if fitting else ""
        raise InputError(
            f"effective_batch_size {effective} is no multiple of {per_device} (per_device_train_batch_size) x "
            f"{counted(num_processes)} = {together}; choose {nearest}{instead}"
        )
    if accumulation != args.gradient_accumulation_steps:
        logger.info(
            f"effective_batch_size {effective} sets gradient_accumulation_steps to {accumulation} "
            f"(was {args.gradient_accumulation_steps})"
        )
    return BatchPlan(per_device, accumulation, effective)


def describe(accelerator: Accelerator, device: Device, plan: BatchPlan) -> str:
    """The one line that a run prints about what it runs on; no communication."""
    processes = accelerator.num_processes
    machines = processes // int(os.environ.get("LOCAL_WORLD_SIZE", str(processes)))
    where = f"{counted(processes)} on {counted(machines, 'machine')}"
    dtype = {"no": "float32"}.get(accelerator.mixed_precision, accelerator.mixed_precision)
    arithmetic = f"{plan.per_device} x {plan.accumulation} x {counted(processes)} = {plan.effective} examples a step"
    return f"{where}, {device}, distributed type {accelerator.distributed_type.value}, {dtype}, {arithmetic}"


def _asks_for_cpu(args: Arguments, environment: Mapping[str, str]) -> bool:
    return args.use_cpu or _is_true(environment.get("ACCELERATE_USE_CPU"))


def _is_true(value: str | None) -> bool:
    return (value or "").lower() in ("1", "true", "yes", "y", "on", "t")
