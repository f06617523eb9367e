"""GLUE's submission files, and the archive that gluebenchmark.com takes.

    python run_glue.py --task_name MNLI --do_predict ... --output_dir outputs/mnli    # MNLI-m.tsv, MNLI-mm.tsv, AX.tsv
    python -m distilbart_mnli.data.submission outputs/mnli outputs/rte ... --output submission.zip

With --predict_proba there is predictions.tsv beside them (predictions_mm.tsv and predictions_ax.tsv for MNLI's other
sets): index, prediction, and the probability of every label. One's own test file gets predictions.tsv in any case.

A file has the header `index<TAB>prediction` and a line for each row of the test set, by its number from 0. Labels are
written as the task's files write them (entailment; 0 or 1 for CoLA, SST-2, MRPC, QQP and WNLI), scores of STS-B cut to
0..5. Predictions come in the task's label ids, never in the model's, so no model's label order can get into a file.

The archive holds the files of one or more folders, each checked first. What GLUE's server would refuse although the
file is sound, a test set not predicted in full or a file missing, is said in one line each; GLUE's own
sample_submission.zip has placeholders for tasks one has no model for.
"""

import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas

from distilbart_mnli.command_line import OneLineParser, file_path
from distilbart_mnli.data.splits import Split
from distilbart_mnli.data.tasks import TASKS, Source, Task
from distilbart_mnli.errors import InputError, RunError, run_command, say
from distilbart_mnli.files import atomic_file

HEADER = "index\tprediction"
FILES: dict[str, tuple[Task, Source]] = {
    f"{source.submission}.tsv": (task, source) for task in reversed(TASKS.values()) for source in task.test
}
"""Submission file -> its task and test set; MNLI-mm.tsv is in it once, though two tasks make it."""


def write_submission(folder: Path, task: Task, split: Split, predictions: np.ndarray) -> Path:
    """Write the predictions of one test set, whole or not at all; returns the file.

    Args:
        folder: made if it is not there.
        split: from load_test; names the file and says which row is which.
        predictions: int64 [rows] label ids in the task's order; float [rows] scores for regression.

    Raises:
        RunError: a score is not finite; the file cannot be written.
    """
    if task.label_range is not None:
        if not np.isfinite(predictions).all():
            raise RunError(f"{split.source}: a predicted score is not finite: the model has diverged")
        words = [f"{score:.6f}" for score in np.clip(predictions.astype(np.float64), *task.label_range)]
    else:
        # A label of one's own data may hold what ends a line or a field.
        written = [" ".join(label.split()) for label in task.written_labels]
        words = [written[label] for label in predictions]
    rows = zip(split.index or range(len(split)), words, strict=True)
    lines = [HEADER, *(f"{index}\t{word}" for index, word in rows)]
    path = folder / f"{split.submission}.tsv"
    with atomic_file(path) as temporary:
        temporary.write_bytes(("\n".join(lines) + "\n").encode("utf-8"))
    return path


def write_probabilities(
    folder: Path, task: Task, split: Split, predictions: np.ndarray, probabilities: np.ndarray | None, suffix: str
) -> Path:
    """Write predictions<suffix>.tsv of one test set: index, id (where the file has ids), prediction, probabilities.

    Args:
        predictions: as for write_submission.
        probabilities: float64 [rows, labels] in the task's order; None for regression.
        suffix: tasks.set_suffix of the test set.

    Raises:
        RunError: a value is not finite; the file cannot be written.
    """
    names = [" ".join(label.split()) for label in task.label_names]
    table: dict[str, Any] = {"index": split.index or range(len(split))}
    if split.ids is not None:
        table["id"] = [" ".join(word.split()) for word in split.ids]
    table["prediction"] = predictions if probabilities is None else [names[label] for label in predictions]
    if probabilities is not None:
        if not np.isfinite(probabilities).all():
            raise RunError(f"{split.source}: a predicted probability is not finite: the model has diverged")
        table |= {f"probability_{name}": probabilities[:, i] for i, name in enumerate(names)}
    path = folder / f"predictions{suffix}.tsv"
    with atomic_file(path) as temporary:
        pandas.DataFrame(table).to_csv(temporary, sep="\t", index=False, lineterminator="\n", float_format="%.9g")
    return path


def zip_submission(folders: list[Path], output: Path) -> list[str]:
    """Zip the submission files of the folders, to the same bytes whenever it is done.

    Returns:
        What GLUE's server would not take, one line each.

    Raises:
        InputError: no submission file in a folder, the same file in two of them, a file that is no submission.
        RunError: the archive cannot be written.
    """
    found: dict[str, Path] = {}
    for folder in folders:
        here = [folder / name for name in FILES if (folder / name).is_file()]
        if not here:
            known = ", ".join(sorted(FILES))
            raise InputError(f"{folder}: no submission file ({known}); give the output_dir of a run with do_predict")
        for path in here:
            if path.name in found:
                raise InputError(f"{path.name} is in {found[path.name].parent} and in {folder}; name one of them")
            found[path.name] = path
    remarks: list[str] = []
    with atomic_file(output) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in sorted(found):
            task, source = FILES[name]
            rows = _check(found[name], task)
            if rows != source.rows:
                remarks.append(f"{name} has {rows:,} rows, GLUE's test set {source.rows:,}")
            archive.writestr(zipfile.ZipInfo(name), found[name].read_bytes(), zipfile.ZIP_DEFLATED)
    if missing := sorted(set(FILES) - set(found)):
        remarks.append(f"missing: {', '.join(missing)}")
    return remarks


def _check(path: Path, task: Task) -> int:
    """Number of predictions in a file.

    Raises:
        InputError: not GLUE's form, with the line.
    """
    lines = path.read_text(encoding="utf-8", errors="replace").split("\n")
    if lines[0] != HEADER or lines.pop() != "":
        raise InputError(f"{path}, line 1: expected the header index<TAB>prediction, and a line feed at the end")
    for number, line in enumerate(lines[1:]):
        index, _, word = line.partition("\t")
        if index != str(number):
            raise InputError(f"{path}, line {number + 2}: expected row {number}, found {index[:20]!r}")
        if task.read_label(word) is None:
            raise InputError(f"{path}, line {number + 2}: expected {task.expected_label}, found {word[:60]!r}")
    return len(lines) - 1


def main() -> None:
    """The command: see the module's docstring."""
    parser = OneLineParser("python -m distilbart_mnli.data.submission", __doc__)
    parser.add_argument("folders", nargs="+", type=file_path, metavar="FOLDER", help="output_dir of a do_predict run")
    parser.add_argument("--output", type=file_path, help="the archive (default: submission.zip in the first folder)")
    args = parser.parse_args()
    output = args.output or args.folders[0] / "submission.zip"
    for remark in zip_submission(args.folders, output):
        say(f"warning: {remark}; GLUE's server wants every row of every file", sys.stderr)
    say(str(output))


if __name__ == "__main__":
    sys.exit(run_command(main))
