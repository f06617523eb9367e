"""The stages of run_glue.py: prepare, train, evaluate, predict, publish; one call each."""

import contextlib
import logging
import os
from collections.abc import Iterator
from pathlib import Path

import torch
import transformers

from distilbart_mnli.command_line import set_up_logging
from distilbart_mnli.data.splits import get_task, load_evaluation, load_test, load_train
from distilbart_mnli.data.submission import write_submission
from distilbart_mnli.data.tokens import TokenizedSplit
from distilbart_mnli.errors import InputError, RunError
from distilbart_mnli.model.bart import count_parameters, freeze
from distilbart_mnli.model.predict import to_task_predictions
from distilbart_mnli.model.pretrained import load
from distilbart_mnli.options.read import Arguments
from distilbart_mnli.processes import lock_output_dir, together, wait_for_all
from distilbart_mnli.publish import hub, smoke_test
from distilbart_mnli.publish.card import add_license, write_model_card
from distilbart_mnli.publish.staging import check_publishable
from distilbart_mnli.train import checkpoints
from distilbart_mnli.train.launch import batch_plan, describe, make_accelerator
from distilbart_mnli.train.loop import Training, is_out_of_memory
from distilbart_mnli.train.resume import load_best
from distilbart_mnli.train.run import Context, Evaluated
from distilbart_mnli.train.saving import (
    merge_results,
    remove_if_empty,
    save_final_model,
    training_results,
    write_evaluation,
)
from distilbart_mnli.train.trackers import Trackers, check_installed

logger = logging.getLogger(__name__)


def check_output_dir(args: Arguments) -> None:
    """Whether this run may write to output_dir; touches nothing.

    Raises:
        InputError: it is a file, cannot be written, or holds an earlier training, or any model, which this one's would
            replace, and neither option for that is given.
    """
    assert args.output_dir is not None
    folder = Path(args.output_dir)
    existing = folder
    try:
        while not existing.exists() and existing != existing.parent:
            existing = existing.parent
    except OSError as error:  # a name too long, a folder above it that may not be entered
        raise InputError(f"output_dir {folder}: cannot be used: {error.strerror}") from None
    if not existing.is_dir():
        raise InputError(f"output_dir {folder}: {existing} is a file; expected a folder")
    if not os.access(existing, os.W_OK | os.X_OK):
        raise InputError(f"output_dir {folder}: {existing} is not writable")
    if args.do_train and not args.overwrite_output_dir and args.resume_from_checkpoint is None:
        found = checkpoints.checkpoints_in(folder) or [p for p in (folder / checkpoints.STATE,) if p.exists()]
        if found:
            raise InputError(
                f"output_dir {folder} holds an earlier training ({found[-1].name}): go on with it "
                "(--resume_from_checkpoint true) or start anew over it (--overwrite_output_dir)"
            )
        if (folder / "model.safetensors").exists():
            raise InputError(
                f"output_dir {folder} holds a model, which the trained one would replace: choose another folder, or "
                "give --overwrite_output_dir"
            )


@contextlib.contextmanager
def prepared(args: Arguments) -> Iterator[Context]:
    """Processes, model, task and evaluation sets, read and checked; the output folder locked while it is open."""
    check_output_dir(args)
    check_installed(args.report_to)
    accelerator = make_accelerator(args)
    set_up_logging(accelerator.is_main_process)
    set_precision(args)
    assert args.output_dir is not None
    output_dir = Path(args.output_dir)
    plan = batch_plan(args, accelerator.num_processes)
    missing = [folder for folder in (output_dir, *output_dir.parents) if not folder.exists()]
    with contextlib.ExitStack() as stack:
        if accelerator.is_main_process:
            for folder in reversed(missing):  # called in reverse: the innermost first
                stack.callback(remove_if_empty, folder)
        with together():
            stack.enter_context(lock_output_dir(output_dir, accelerator.is_main_process))
            task = get_task(args)
            evaluation = load_evaluation(args, task) if args.do_eval or args.eval_strategy != "no" else []
            loaded = load(args, task)
        logger.info("%s", describe(accelerator, plan, accelerator.mixed_precision))
        context = Context(args, accelerator, plan, task, loaded, output_dir, evaluation)
        with together():
            check_best_metric(args, context)
        context.evaluation_splits = [context.tokenize(split) for split in evaluation]
        yield context


@contextlib.contextmanager
def memory_in_one_line(args: Arguments) -> Iterator[None]:
    """Lack of memory anywhere as a RunError; loop.py says more about a training batch."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if isinstance(error, RuntimeError) and not is_out_of_memory(error):
            raise
        raise RunError(
            "out of memory outside a training batch: lower per_device_eval_batch_size (now "
            f"{args.per_device_eval_batch_size}) or per_device_train_batch_size (now "
            f"{args.per_device_train_batch_size})"
        ) from None


def set_precision(args: Arguments) -> None:
    """TF32 and determinism, before the first product."""
    if args.full_determinism:
        transformers.enable_full_determinism(args.seed, warn_only=False)
    tf32 = args.tf32 if args.tf32 is not None else not args.full_determinism
    if torch.cuda.is_available():
        torch.set_float32_matmul_precision("high" if tf32 else "highest")


def check_best_metric(args: Arguments, context: Context) -> None:
    """Raises InputError where metric_for_best_model is nothing that an evaluation of this task gives."""
    if not args.do_train or args.metric_for_best_model is None:
        return
    suffixes = [context.suffix(split.name) for split in context.evaluation]
    known = [f"{name}{suffix}" for suffix in suffixes for name in ("loss", *context.task.metrics)]
    if args.metric_for_best_model.removeprefix("eval_") not in known:
        raise InputError(
            f"metric_for_best_model {args.metric_for_best_model}: an evaluation of {context.task.name} gives "
            f"{', '.join(known) or 'nothing (eval_strategy is no)'}"
        )


def train(context: Context) -> Training:
    """Train, save the model in output_dir, write the training's results."""
    args, accelerator = context.args, context.accelerator
    with together():
        train_split = load_train(args, context.task)
    split = context.tokenize(train_split)
    context.train_examples = len(split)
    freeze(context.model, args.freeze_encoder, args.freeze_embeds, args.frozen_encoder_dropout)
    context.remember_model()
    trainable, total = count_parameters(context.model)
    logger.info(
        "%d training examples, %d tokens on average; %.1f M parameters are trained, %.1f M are frozen",
        len(split),
        round(split.lengths.mean()),
        trainable / 1e6,
        (total - trainable) / 1e6,
    )
    tracked = {name: value for name, value in vars(args).items() if name != "hub_token"}
    run_name = args.run_name or context.output_dir.name
    trackers = Trackers(args.report_to, run_name, context.output_dir, tracked, context.is_main)
    context.tracker_urls = trackers.urls
    training = Training(context, split, trackers)
    if context.is_main:
        checkpoints.remove_leftovers(context.output_dir)
    try:
        training.prepare()
        if context.evaluation_splits:
            context.prepare_evaluation(evaluations(training))
        training.run()
    finally:
        trackers.finish()
    if args.load_best_model_at_end:
        load_best(training)
    results = training_results(context, training)
    with together():
        if context.is_main:
            save_final_model(context, training)
            merge_results(context.output_dir, results)
    logger.info(
        "trained %d steps in %.1f s, %.1f examples/s; waiting for data took %.1f %% of it",
        training.progress.step,
        results["train_runtime"],
        results["train_samples_per_second"],
        100 * results["train_data_time_share"],
    )
    if args.torch_compile:
        counters = torch._dynamo.utils.counters
        breaks = sum(counters["graph_break"].values())
        logger.info("torch.compile: %d graphs, %d graph breaks", counters["stats"]["unique_graphs"], breaks)
    accelerator.wait_for_everyone()
    return training


def evaluations(training: Training) -> int:
    """How often a training and the evaluation after it read the evaluation sets."""
    args = training.args
    every = {"no": 0, "steps": args.eval_steps or args.logging_steps, "epoch": training.steps_per_epoch}
    step = every[args.eval_strategy]
    return (training.total_steps // step if step else 0) + int(args.do_eval)


def evaluate(context: Context, training: Training | None) -> None:
    """Evaluate the model as it is now, and write results and predictions."""
    results: list[Evaluated]
    if training is None:
        context.model.to(context.accelerator.device)
        context.prepare_evaluation(1)
    last = training.last_evaluation if training is not None else None
    if training is not None and last is not None and last[0] == training.progress.step and not training.reloaded:
        results = last[1]  # the last step's own evaluation, of the same weights
    else:
        results = context.evaluate(progress=context.show_progress)
    with together():
        if context.is_main:
            write_evaluation(context, results)


def predict(context: Context) -> None:
    """Write the submission file of every test set."""
    with together():
        splits = load_test(context.args, context.task)
    context.model.to(context.accelerator.device)
    for split in splits:
        tokenized: TokenizedSplit = context.tokenize(split)
        logits = context.logits_of(tokenized, context.show_progress)
        with together():
            if context.is_main:
                predictions = to_task_predictions(logits, context.task, context.label_map)
                path = write_submission(context.output_dir, context.task, split, predictions)
                logger.info("%d predictions in %s", len(split), path)


def write_card(context: Context, target: hub.PublishTarget | None) -> None:
    """The model card, published or not."""
    with together():
        if context.is_main:
            write_model_card(context.output_dir, hub_model_id=target.repo_id if target else None)


def publish(context: Context, target: hub.PublishTarget | None) -> None:
    """Publish output_dir from the first process; the others wait."""
    first = context.evaluation[0] if context.args.do_eval else None
    with together():
        if context.is_main:
            rows = None
            if first is not None:
                count = min(smoke_test.ROWS, len(first))
                rows = [(first.sentence1[i], first.sentence2[i] if first.sentence2 else None) for i in range(count)]
            hub.publish(context.output_dir, context.args, target, rows)


def run(args: Arguments) -> None:
    """Everything that run_glue.py does, in order."""
    stages = args.do_train or args.do_eval or args.do_predict
    target = None
    if not stages:
        if os.environ.get("RANK", "0") != "0":
            return  # a launcher started several processes, which have nothing to compute together
        set_up_logging(True)
        finished = Path(args.output_dir or "")
        if args.license:
            check_publishable(finished)
            add_license(finished, args.license, args.hub_model_id)
        hub.publish(finished, args)
        return
    with memory_in_one_line(args), prepared(args) as context:
        if args.push_to_hub:
            with together():
                target = hub.preflight(args) if context.is_main else None
        training = train(context) if args.do_train else None
        if args.do_eval:
            evaluate(context, training)
        if args.do_predict:
            predict(context)
        if args.do_train:
            write_card(context, target)
        if args.push_to_hub:
            publish(context, target)
        wait_for_all()
