"""Everything that classify.py does, in order: labels, texts, model, scores, results."""

import contextlib
import itertools
import json
import logging
import signal
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from distilbart_mnli.command_line import set_up_logging, this_command
from distilbart_mnli.data.tokens import digest_of
from distilbart_mnli.errors import InputError, StoppedBySignal, say
from distilbart_mnli.files import LocksNotSupported, check_output_dir, lock_file, lock_holder
from distilbart_mnli.options.fields import DEFAULT_TEMPLATE
from distilbart_mnli.zero_shot.backends import BackendOptions
from distilbart_mnli.zero_shot.classifier import Scorer, ZeroShotClassifier, split_labels
from distilbart_mnli.zero_shot.pairs import check_labels, check_template
from distilbart_mnli.zero_shot.results import ENDINGS, Form, PartFile, rounded, write_results
from distilbart_mnli.zero_shot.texts import TextOptions, Texts, open_texts

logger = logging.getLogger(__name__)
SECONDS_BETWEEN_LINES = 30.0  # of progress, where there is no terminal for a bar


@dataclass(frozen=True, kw_only=True)
class ClassifyOptions:
    """The options of classify.py; its --help says what they mean."""

    model: str
    file: str
    candidate_labels: list[str] | None = None
    labels_file: Path | None = None
    output: Path | None = None
    overwrite: bool = False
    multi_label: bool = False
    hypothesis_template: str = DEFAULT_TEMPLATE
    threshold: float = 0.0
    top_k: int | None = None
    threads: int | None = None
    texts: TextOptions = field(default_factory=TextOptions)
    backend: BackendOptions = field(default_factory=BackendOptions)


def classify_file(options: ClassifyOptions) -> None:
    """Labels and scores of every text of a file, to `output` or to stdout.

    Raises:
        InputError: labels, template, file, output or model that cannot be used.
        HubError: the model is on the Hub and cannot be had.
        RunError: the disk is full, or a score is not finite.
        StoppedBySignal: what is done is kept.
    """
    set_up_logging()
    labels = read_labels(options)
    check_template(options.hypothesis_template)
    if options.output is not None:
        _check_output(options.output, options.overwrite)
    if options.threads:
        torch.set_num_threads(options.threads)
    with open_texts(options.file, options.texts) as texts, logging_redirect_tqdm():
        classifier = ZeroShotClassifier(options.model, options.backend)
        scorer = classifier.scorer(labels, options.hypothesis_template, options.multi_label)
        form = Form(labels, options.threshold, options.top_k)
        if options.output is None:
            _to_stdout(texts, scorer, form)
        else:
            _to_file(texts, scorer, form, options.output)


def read_labels(options: ClassifyOptions) -> list[str]:
    """The labels of the command line or of a file, one a line.

    Raises:
        InputError: none or both are given; a label twice; one alone without multi_label, as its score would be 1.
    """
    if (options.candidate_labels is None) == (options.labels_file is None):
        raise InputError("expected labels, either by --candidate_labels or by --labels_file")
    if options.labels_file is not None:
        with open_texts(str(options.labels_file), TextOptions(format="lines", skip_bad_rows=True)) as lines:
            labels = [text.strip() for _, text in lines]
    else:
        labels = options.candidate_labels or []
        if len(labels) == 1 or any(label.endswith(",") for label in labels):  # one list, as the pipeline takes it
            labels = split_labels(" ".join(labels))
    check_labels(labels)
    if len(labels) == 1 and not options.multi_label:
        raise InputError(f"candidate_labels: {labels[0][:60]!r} alone; give at least two, or --multi_label")
    return labels


def _check_output(output: Path, overwrite: bool) -> None:
    if output.suffix.lower() not in ENDINGS:
        raise InputError(f"--output {output}: expected a name that ends in {', '.join(ENDINGS)}")
    check_output_dir(output.absolute().parent)
    if output.is_dir():
        raise InputError(f"--output {output}: is a folder; expected a file")
    if output.exists() and not overwrite:
        raise InputError(f"--output {output}: is there already; give another name, or --overwrite")


def _to_stdout(texts: Texts, scorer: Scorer, form: Form) -> None:
    with _progress(texts.count, 0, scorer) as progress:
        for group in _groups(texts, scorer.texts_at_once, 0):
            numbers, parts = zip(*group, strict=True)
            for number, text, row in zip(numbers, parts, progress.scores(parts), strict=True):
                answer = form.row(number, text, rounded(row))
                if sys.stdout.isatty():
                    say(json.dumps(answer, ensure_ascii=False))
                else:
                    print(json.dumps(answer), flush=True)


def _to_file(texts: Texts, scorer: Scorer, form: Form, output: Path) -> None:
    with _locked(output):
        key = digest_of(scorer.digest(), texts.digest)
        part = PartFile.open(output, key, len(form.labels), scorer.texts_at_once, texts.count)
        if part.done:
            logger.info("%s: goes on after %d of %d texts", part.path, part.done, texts.count)
        try:
            with _progress(texts.count, part.done, scorer) as progress:
                for group in _groups(texts, scorer.texts_at_once, part.done):
                    part.append(progress.scores([text for _, text in group]))
            write_results(output, form, texts, part)
        except KeyboardInterrupt as stop:
            number = getattr(stop, "signal_number", signal.SIGINT)
            raise StoppedBySignal(
                f"stopped by {signal.Signals(number).name} after {part.done} of {texts.count} texts, which are kept; "
                f"go on with: {this_command()}",
                number,
            ) from None
        part.path.unlink()
    logger.info("written: %s", output)


@contextlib.contextmanager
def _locked(output: Path) -> Iterator[None]:
    """One run an output."""
    path = output.with_name(f".{output.name}.lock")
    try:
        lock = lock_file(path)
    except LocksNotSupported:
        yield
        return
    except OSError as error:
        raise InputError(f"--output {output}: cannot be written: {error.strerror}") from None
    if lock is None:
        raise InputError(f"--output {output}: {lock_holder(path)} is writing it; wait for it, or give another name")
    with lock:
        yield


def _groups(texts: Texts, size: int, done: int) -> Iterator[list[tuple[int, str]]]:
    """The texts after the first `done`, so many at once: never more are in memory."""
    rest = itertools.islice(texts, done, None)
    while group := list(itertools.islice(rest, size)):
        yield group


class _Progress:
    """A bar on a terminal, or a line now and then; and the rate at the end."""

    def __init__(self, total: int, done: int, scorer: Scorer, bar: Any):
        self.total, self.done, self.scorer, self.bar = total, done, scorer, bar
        self.before, self.started = done, time.monotonic()
        self.said = self.started

    @property
    def rate(self) -> float:
        """Texts a second."""
        return (self.done - self.before) / max(time.monotonic() - self.started, 1e-9)

    def scores(self, texts: Any) -> Any:
        """Of the next texts: float64 [texts, labels]."""
        labels = len(self.scorer.labels)
        scores = self.scorer.scores(list(texts), report=lambda pairs: self.bar.update(pairs / labels))
        self.done += len(texts)
        if self.bar.disable and time.monotonic() - self.said > SECONDS_BETWEEN_LINES:
            self.said = time.monotonic()
            logger.info("%d of %d texts, %.1f texts/s", self.done, self.total, self.rate)
        return scores


@contextlib.contextmanager
def _progress(total: int, done: int, scorer: Scorer) -> Iterator[_Progress]:
    with tqdm(total=total, initial=done, unit="text", leave=False, disable=None, bar_format=_BAR) as bar:
        progress = _Progress(total, done, scorer, bar)
        yield progress
    backend = scorer.backend
    how = f"{backend.kind}, {backend.dtype}, {backend.device}"
    logger.info("%d texts, %d labels: %.1f texts/s (%s)", progress.done - done, len(scorer.labels), progress.rate, how)


_BAR = "{l_bar}{bar}| {n:.0f}/{total} texts [{elapsed}<{remaining}, {rate_fmt}]"
