"""The stages of run_glue.py: prepare, train, evaluate, predict, publish; one call each.

What a late stage reads is read before the first: every split, and in rehearsal.py what the card and the Hub refuse.
"""

import contextlib
import dataclasses
import logging
import os
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
import transformers

from distilbart_mnli.command_line import resume_command, set_up_logging, this_command
from distilbart_mnli.data.metrics import ENCODER_MSE
from distilbart_mnli.data.splits import Split, get_task, load_evaluation, load_test, load_train
from distilbart_mnli.data.submission import write_probabilities, write_submission
from distilbart_mnli.data.tasks import Task, set_suffix
from distilbart_mnli.data.tokens import TokenizedSplit, tokenize
from distilbart_mnli.data.transfer import with_transfer_rows
from distilbart_mnli.errors import CommandError, InputError, RunError
from distilbart_mnli.export import session
from distilbart_mnli.files import check_output_dir, remove_leftovers
from distilbart_mnli.model.bart import count_parameters, freeze, freeze_all_but_encoder, weights_digest
from distilbart_mnli.model.history import how_made
from distilbart_mnli.model.predict import to_task_predictions, to_task_probabilities
from distilbart_mnli.model.pretrained import load
from distilbart_mnli.model.teacher import load_teacher
from distilbart_mnli.options.fields import Arguments
from distilbart_mnli.processes import barrier, lock_output_dir, same_outcome_on_all_ranks
from distilbart_mnli.publish import hub, smoke_test
from distilbart_mnli.publish.card import renew_model_card, write_model_card
from distilbart_mnli.publish.commit import PublishTarget
from distilbart_mnli.publish.staging import PUBLISHED_FILES, check_publishable
from distilbart_mnli.train import checkpoints, resume
from distilbart_mnli.train.device import device_for, is_out_of_memory
from distilbart_mnli.train.evaluation import (
    EvaluationResult,
    EvaluationSet,
    evaluation_sets,
    logits_of,
    open_caches,
)
from distilbart_mnli.train.evaluation import evaluate as evaluate_sets
from distilbart_mnli.train.history import history_after
from distilbart_mnli.train.launch import batch_plan, describe, make_accelerator
from distilbart_mnli.train.loop import Training
from distilbart_mnli.train.rehearsal import rehearse
from distilbart_mnli.train.run import Run, tokenize_split
from distilbart_mnli.train.saving import (
    evaluates_own_model,
    merge_results,
    remove_if_empty,
    save_final_model,
    training_results,
    write_evaluation,
)
from distilbart_mnli.train.signals import StopSignals, stopping
from distilbart_mnli.train.state import Steps
from distilbart_mnli.train.trackers import Trackers, check_installed

logger = logging.getLogger(__name__)


def check_nothing_is_lost(args: Arguments) -> None:
    """Whether this run may write to output_dir; touches nothing.

    Raises:
        InputError: it cannot be written; it holds an earlier training, or any model, which this one's would replace,
            and neither option for that is given; what is published would not be what was evaluated.
    """
    assert args.output_dir is not None
    folder = Path(args.output_dir)
    check_output_dir(folder)
    if args.do_train:
        session.check_place(folder)
    for path in folder.glob("*"):
        if path.is_dir() and any(path.match(pattern) for pattern in (*PUBLISHED_FILES, "eval_predictions_*.tsv")):
            raise InputError(f"{path} is a folder, where this run would write a file: choose another output_dir")
    if args.push_to_hub and args.do_eval and not args.do_train and not evaluates_own_model(args):
        raise InputError(
            f"push_to_hub publishes the model in output_dir, {folder}, and the results would be those of another one, "
            f"{args.model_name_or_path}: give --model_name_or_path {shlex.quote(str(folder))}"
        )
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


@dataclass(frozen=True)
class Data:
    """All sets of a run, tokenised before its first stage, whatever stage needs them."""

    train: TokenizedSplit | None
    evaluation: list[EvaluationSet]
    test: list[EvaluationSet]


@contextlib.contextmanager
def prepared(args: Arguments) -> Iterator[tuple[Run, Data]]:
    """Processes, model, task and data, read and checked; the output folder locked while it is open."""
    check_nothing_is_lost(args)
    check_installed(args.report_to)
    check_export(args)
    accelerator = make_accelerator(args)
    device = device_for(accelerator)
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
        with same_outcome_on_all_ranks():
            stack.enter_context(lock_output_dir(output_dir, accelerator.is_main_process))
            if accelerator.is_main_process:
                check_nothing_is_lost(args)  # again: another run can have finished while this one was starting
            task = get_task(args)
            train_split = with_transfer_rows(args, task, load_train(args, task)) if args.do_train else None
            splits = load_evaluation(args, task) if args.do_eval or args.eval_strategy != "no" else []
            test_splits = load_test(args, task) if args.do_predict else []
            check_best_metric(args, task, splits)
            if args.export_onnx == "int8" and task.is_regression:
                raise InputError(f"export_onnx int8 is measured by labels, and {task.name} has none: give float32")
            loaded = load(args, task)
            asked = args.teacher_model_name_or_path and (args.do_train or args.fit_encoder)
            teacher = load_teacher(args, loaded) if asked else None
        device.keep_shapes_static(loaded.model)
        logger.info("%s", describe(accelerator, device, plan))
        if teacher is not None and train_split is not None and not teacher.same_ids:
            teacher = dataclasses.replace(teacher, train=tokenize(train_split, teacher.tokenizer, args.max_seq_length))
        run = Run(args, accelerator, device, plan, task, loaded, output_dir, teacher)
        train_set = None if train_split is None else tokenize_split(run, train_split)
        yield run, Data(train_set, evaluation_sets(run, splits), evaluation_sets(run, test_splits))


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


def check_export(args: Arguments) -> None:
    """Raises InputError where export_onnx needs a package that is not there."""
    if args.export_onnx != "no":
        session.check_installed(*session.PACKAGES)


def check_best_metric(args: Arguments, task: Task, splits: list[Split]) -> None:
    """Raises InputError where metric_for_best_model is nothing that an evaluation of this task gives."""
    if not args.do_train or args.metric_for_best_model is None:
        return
    suffixes = [set_suffix(split.name, splits[0].name) for split in splits]
    measured = ["loss", *task.metrics, *([ENCODER_MSE] if args.fit_encoder else [])]
    known = [f"{name}{suffix}" for suffix in suffixes for name in measured]
    if args.metric_for_best_model.removeprefix("eval_") not in known:
        raise InputError(
            f"metric_for_best_model {args.metric_for_best_model}: an evaluation of {task.name} gives "
            f"{', '.join(known) or 'nothing (eval_strategy is no)'}"
        )


def train(run: Run, split: TokenizedSplit, sets: list[EvaluationSet]) -> Training:
    """Train, save the model in output_dir, write the training's results."""
    args, model = run.args, run.model
    freeze(model, args.freeze_encoder, args.freeze_embeds, args.frozen_encoder_dropout)
    if args.fit_encoder:
        freeze_all_but_encoder(model)
    digest = weights_digest(model)
    run_name = args.run_name or run.output_dir.name
    trackers = Trackers(args.report_to, run_name, run.output_dir, args.without_token(), run.is_main)
    training = Training(run, split, sets, trackers)
    trainable, total = count_parameters(model)
    logger.info(
        "%d training examples, %d tokens on average; %.1f M parameters are trained, %.1f M are frozen",
        len(split),
        round(split.lengths.mean()),
        trainable / 1e6,
        (total - trainable) / 1e6,
    )
    if history := history_after(run):
        logger.info("how the model was made, with this training: %s", how_made(history))
    if run.is_main:
        remove_leftovers(run.output_dir, owned=True)
    try:
        training.prepare(digest)
        open_caches(run, sets, evaluations(args, training.steps))
        training.train()
    finally:
        trackers.finish()
    results = training_results(run, training.state)
    with stoppable(run, "the end of the training, whose model is saved") as signals:
        if args.load_best_model_at_end and resume.load_best(run, training.state):
            training.last_evaluation = None  # of the last step's weights
        with same_outcome_on_all_ranks():
            if run.is_main:
                save_final_model(run, training.state)
                merge_results(run.output_dir, results)
        signals.check()
    logger.info(
        "trained %d steps in %.1f s, %.1f examples/s; waiting for data took %.1f %% of it",
        training.state.progress.step,
        results["train_runtime"],
        results["train_samples_per_second"],
        100 * results["train_data_time_share"],
    )
    if args.torch_compile:
        counters = torch._dynamo.utils.counters
        breaks = sum(counters["graph_break"].values())
        logger.info("torch.compile: %d graphs, %d graph breaks", counters["stats"]["unique_graphs"], breaks)
    run.accelerator.wait_for_everyone()
    return training


def evaluations(args: Arguments, steps: Steps) -> int:
    """How often a training and the evaluation after it read the evaluation sets."""
    every = {"no": 0, "steps": args.evaluation_interval, "epoch": steps.per_epoch}[args.eval_strategy]
    return int(steps.total // every if every else 0) + int(args.do_eval)


def evaluate(run: Run, sets: list[EvaluationSet], training: Training | None) -> None:
    """Evaluate the model as it is now, and write results and predictions."""
    if training is None:
        run.model.to(run.accelerator.device)
        open_caches(run, sets, 1)
        results = stoppable_evaluation(run, sets)
    elif training.last_evaluation is not None and training.last_evaluation[0] == training.state.progress.step:
        results = training.last_evaluation[1]  # the last step's own, of the same weights
    else:
        results = stoppable_evaluation(run, sets)
    with same_outcome_on_all_ranks():
        if run.is_main:
            write_evaluation(run, sets, results)


def stoppable(run: Run, what: str) -> contextlib.AbstractContextManager[StopSignals]:
    """A part of the run after the training, which a signal ends without results; the model is saved by then."""
    again = this_command()
    if run.args.do_train and run.args.save_strategy != "no":
        again = resume_command()
    elif run.args.do_train:
        again = f"{again} --no_do_train --model_name_or_path {shlex.quote(str(run.output_dir))}"
    return stopping(what, again, run.rounds_between_checks, run.is_main)


def stoppable_evaluation(run: Run, sets: list[EvaluationSet]) -> list[EvaluationResult]:
    """The results of all sets; raises StoppedBySignal on a signal."""
    with stoppable(run, "the evaluation") as signals:
        return evaluate_sets(run, sets, signals)


def predict(run: Run, sets: list[EvaluationSet]) -> None:
    """Write the submission file of every test set."""
    run.model.to(run.accelerator.device)
    for test_set in sets:
        with stoppable(run, f"the predictions of {test_set.texts.name}") as signals:
            logits = logits_of(run, test_set.tokens, signals)
        with same_outcome_on_all_ranks():
            if run.is_main:
                predictions = to_task_predictions(logits, run.task, run.label_map)
                split = test_set.texts
                path = write_submission(run.output_dir, run.task, split, predictions)
                if run.args.predict_proba:
                    probabilities = to_task_probabilities(logits, run.label_map)
                    suffix = test_set.suffix
                    path = write_probabilities(run.output_dir, run.task, split, predictions, probabilities, suffix)
                logger.info("%d predictions in %s", len(split), path)


def write_card(run: Run, target: PublishTarget | None) -> None:
    """The card of the model in output_dir, published or not; by the first process alone."""
    repo_id = target.repo_id if target else None
    if run.is_main and run.args.do_train:
        write_model_card(run.output_dir, repo_id)
    elif run.is_main and run.args.push_to_hub and evaluates_own_model(run.args):
        renew_model_card(run.output_dir, repo_id, run.args.license)


def export(run: Run, sets: list[EvaluationSet]) -> None:
    """Write onnx/ beside the model that was saved; by the first process, the others wait."""
    with same_outcome_on_all_ranks():
        if run.is_main:
            from distilbart_mnli.export.export import export_onnx, load_for_export, load_rows

            args = dataclasses.replace(run.args, model_name_or_path=str(run.output_dir), tokenizer_name=None)
            loaded, int8 = load_for_export(args), args.export_onnx == "int8"
            rows = load_rows(args, loaded, run.task, sets[0].texts) if int8 else None
            exported = export_onnx(loaded, run.output_dir, rows, int8)
            if exported.figures:
                share = 100 * exported.figures["agreement"]
                kept = "written" if exported.quantized else "too seldom, so it is not written"
                logger.info("int8 gives float32's answer on %.2f %% of the rows: %s", share, kept)


@contextlib.contextmanager
def card_afterwards(run: Run, target: PublishTarget | None) -> Iterator[None]:
    """The card with the results that the stages inside came to, however they end."""
    try:
        yield
    except BaseException:  # an evaluation that ran out of memory, a signal: the model is there, so it gets its page
        with contextlib.suppress(CommandError):
            write_card(run, target)
        raise
    with same_outcome_on_all_ranks():
        write_card(run, target)


def publish(run: Run, sets: list[EvaluationSet], target: PublishTarget | None) -> None:
    """Publish output_dir from the first process; the others wait."""
    with same_outcome_on_all_ranks():
        if run.is_main:
            predictions = None
            if run.args.do_eval:
                first = sets[0].texts
                count = min(smoke_test.ROWS, len(first))
                rows = [(first.sentence1[i], first.sentence2[i] if first.sentence2 else None) for i in range(count)]
                path, dtype = run.output_dir / f"eval_predictions_{first.name}.tsv", run.compute_dtype
                predictions = smoke_test.Predictions(path, rows, run.args.max_seq_length, dtype)
            hub.publish(run.output_dir, run.args, target, predictions)


def run_stages(args: Arguments) -> None:
    """Everything that run_glue.py does, in order."""
    if not (args.do_train or args.do_eval or args.do_predict):
        publish_only(args)
        return
    target, training = None, None
    with memory_in_one_line(args), prepared(args) as (run, data):
        with same_outcome_on_all_ranks():
            if run.is_main and (args.do_train or args.push_to_hub):
                target = rehearse(run)
        if data.train is not None:
            training = train(run, data.train, data.evaluation)
        with card_afterwards(run, target):
            if args.do_eval:
                evaluate(run, data.evaluation, training)
            if args.export_onnx != "no":
                export(run, data.evaluation)
        if args.do_predict:
            predict(run, data.test)
        if args.push_to_hub:
            publish(run, data.evaluation, target)
        barrier()


def publish_only(args: Arguments) -> None:
    """Publish what an earlier run left in output_dir."""
    if os.environ.get("RANK", "0") != "0":
        return  # a launcher started several processes, which have nothing to compute together
    set_up_logging()
    finished = Path(args.output_dir or "")
    check_publishable(finished)
    # A folder that cannot be written to can still be published; nothing changes in it.
    lock = lock_output_dir(finished, True) if os.access(finished, os.W_OK) else contextlib.nullcontext()
    with lock:
        renew_model_card(finished, args.hub_model_id, args.license)
        hub.publish(finished, args)
