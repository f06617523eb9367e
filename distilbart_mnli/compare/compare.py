"""Everything that compare_models.py does, in order: options, candidates, evaluation, speed, sheet."""

import functools
import json
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from tqdm.contrib.logging import logging_redirect_tqdm

from distilbart_mnli.command_line import set_up_logging, this_command
from distilbart_mnli.compare.backends import measure_backends
from distilbart_mnli.compare.evaluate import Candidate, EvaluationData, evaluate_candidates, load_candidates, working
from distilbart_mnli.compare.sheet import Sheet, terminal_tables, write_sheet
from distilbart_mnli.compare.speed import TimedModel, measure_speed, peak_memory
from distilbart_mnli.compare.zero_shot import read_zero_shot
from distilbart_mnli.data.splits import Split, get_task, load_evaluation
from distilbart_mnli.errors import CommandError, InputError, say
from distilbart_mnli.files import atomic_file, check_output_dir
from distilbart_mnli.model.bart import to_stock
from distilbart_mnli.model.source import reported
from distilbart_mnli.options.fields import DEFAULT_TEMPLATE, Arguments
from distilbart_mnli.public_text import public_command, without_paths
from distilbart_mnli.publish.card import write_model_card

logger = logging.getLogger(__name__)
FILE_NAME = "tradeoffs.json"


@dataclass(frozen=True, kw_only=True)
class CompareOptions:
    """The options of compare_models.py; its --help says what they mean."""

    models: list[str]
    output_dir: Path
    data_dir: str | None = None
    max_eval_samples: int | None = None
    max_seq_length: int = 128
    skip_bad_rows: bool = False
    ignore_label: str | None = None
    zero_shot: Path | None = None
    hypothesis_template: str = DEFAULT_TEMPLATE
    max_zero_shot_samples: int | None = None
    devices: list[str] | None = None
    bf16: bool = False
    repetitions: int = 5
    threads: int | None = None
    no_speed: bool = False
    backends: bool = False
    update_model_dirs: bool = False


def compare_models(options: CompareOptions) -> Sheet:
    """Measure, print and write.

    Raises:
        InputError: data or zero-shot file unusable, a device that is not there, an output folder that cannot be
            written, no model that can be used. After the sheet of the others is written: a model that was left out,
            with its own error's exit code.
        HubError: the data is on the Hub and cannot be had.
        RunError: the disk is full.
    """
    set_up_logging()
    devices = _devices(options)
    check_output_dir(options.output_dir)
    if options.threads:
        torch.set_num_threads(options.threads)
    args = Arguments(
        task_name="mnli",
        data_dir=options.data_dir,
        max_eval_samples=options.max_eval_samples,
        max_seq_length=options.max_seq_length,
        skip_bad_rows=options.skip_bad_rows,
        ignore_label=options.ignore_label,
        do_eval=True,
    )
    task = get_task(args)
    splits = load_evaluation(args, task)
    zero_shot = None
    if options.zero_shot is not None:
        zero_shot = read_zero_shot(
            options.zero_shot,
            options.hypothesis_template,
            limit=options.max_zero_shot_samples,
            skip_bad_rows=options.skip_bad_rows,
            ignore_label=options.ignore_label,
        )
    with logging_redirect_tqdm():
        candidates = load_candidates(options.models, args, task, zero_shot is not None)
        data = EvaluationData(task, splits, options.max_seq_length, zero_shot)
        evaluate_candidates(candidates, data, torch.device(devices[-1]), options.bf16)
        for name in () if options.no_speed else devices:
            _measure_device(working(candidates), splits[0], torch.device(name), options)
        for candidate in working(candidates) if options.backends else ():
            if candidate.loaded.label_map is not None:
                with reported(candidate.leave_out):
                    figures = measure_backends(candidate, splits[0], task, options.max_seq_length, options.repetitions)
                    candidate.row["backends"] = figures
    left_out = {candidate.name: candidate.error for candidate in candidates if candidate.error is not None}
    measured = working(candidates)
    if not measured:
        raise next(iter(left_out.values()))
    sheet = Sheet(
        {"teacher": candidates[0].name, **_conditions(options, devices, splits)},
        [candidate.row for candidate in measured],
        {name: without_paths(str(error)) for name, error in left_out.items()},
    )
    paths = write_sheet(options.output_dir, sheet)
    not_updated: dict[str, CommandError] = {}
    for candidate in measured if options.update_model_dirs else ():
        with reported(functools.partial(not_updated.__setitem__, candidate.name)):
            _update_model_dir(candidate, sheet.conditions)
    say(terminal_tables(sheet))
    logger.info("written: %s", ", ".join(map(str, paths)))
    for what, errors in (("left out", left_out), ("measured, but their folders are as before", not_updated)):
        if errors:
            first = next(iter(errors.values()))
            raise CommandError(f"{what}: {', '.join(errors)}; the first because: {first}", first.exit_code)
    return sheet


def _devices(options: CompareOptions) -> list[str]:
    """The CPU, and a GPU after it."""
    if options.devices is None:
        return ["cpu"] + (["cuda"] if torch.cuda.is_available() else [])
    if "cuda" in options.devices and not torch.cuda.is_available():
        raise InputError("--devices cuda: torch sees no GPU here; leave it out, or give cpu")
    return sorted(set(options.devices))


def _measure_device(candidates: list[Candidate], split: Split, device: torch.device, options: CompareOptions) -> None:
    """Speed and memory of every candidate on one device, as one more entry of the `devices` in its row."""
    assert split.sentence2 is not None  # MNLI has pairs
    pairs = list(zip(split.sentence1, split.sentence2, strict=True))
    models = {
        c.name: TimedModel(to_stock(c.loaded.model), c.loaded.tokenizer, options.max_seq_length, options.bf16)
        for c in candidates
    }
    figures = measure_speed(models, pairs, device, options.repetitions)
    for candidate in candidates:
        if error := models[candidate.name].error:
            candidate.leave_out(error)
            continue
        entry: dict[str, Any] = {"device": device.type, **figures[candidate.name]}
        peak = peak_memory(candidate.path, options.max_seq_length, device.type, options.bf16)
        if peak is None:
            logger.warning("%s: the peak of memory could not be measured", candidate.name)
        else:
            entry["peak_mb"] = peak
        candidate.row.setdefault("devices", []).append(entry)
        logger.info("%s: speed and memory measured on %s", candidate.name, device.type)


def _conditions(options: CompareOptions, devices: list[str], splits: list[Split]) -> dict[str, Any]:
    dtype = "bfloat16 autocast" if options.bf16 else "float32"
    threads = torch.get_num_threads()
    titles = {"cpu": f"CPU, {threads} thread{'s' * (threads > 1)}, {dtype}"}
    if "cuda" in devices:
        titles["cuda"] = f"{torch.cuda.get_device_name()}, {dtype}"
    return {
        "devices": {name: titles[name] for name in devices},
        "rows": " and ".join(f"{len(split):,} of {split.name}" for split in splits),
        "max_seq_length": options.max_seq_length,
        "zero_shot": None if options.zero_shot is None else options.zero_shot.name,
        "hypothesis_template": None if options.zero_shot is None else options.hypothesis_template,
        "dtype": dtype,
        "versions": f"torch {torch.__version__}, transformers {transformers.__version__}",
        "command": public_command(this_command()),
    }


def _update_model_dir(candidate: Candidate, conditions: dict[str, Any]) -> None:
    """The model's own figures into its folder; its card is written again where a run wrote one."""
    folder = Path(candidate.path)
    if not folder.is_dir():
        logger.info("%s is on the Hub, not in a folder: no %s is written for it", candidate.name, FILE_NAME)
        return
    known = {key: value for key, value in conditions.items() if value is not None}
    with atomic_file(folder / FILE_NAME) as temporary:
        temporary.write_text(json.dumps({**candidate.row, "conditions": known}, indent=2) + "\n", encoding="utf-8")
    if (folder / "README.md").is_file() and (folder / "trainer_state.json").is_file():
        write_model_card(folder)
