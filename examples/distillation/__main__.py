"""Questions about distillation, answered by measurement: every run, then one table a question.

    python -m examples.distillation --teacher TEACHER --data_dir glue_data/MNLI --output_dir outputs/distillation

makes the students, trains and evaluates each with run_glue.py, prints every command before it runs, and writes
OUTPUT_DIR/results.md. Run it from the root of the repository. Called again, it skips what is whole and goes on with
the rest; keep one output_dir a teacher. --dry_run prints the commands that are still to run, one a line. --table_only
writes the table from what is there.

Exit codes: 0 done; 1 a run failed; 2 bad input; 128 + n stopped by signal n.
"""

import argparse
import csv
import sys
from collections.abc import Sequence
from pathlib import Path

from distilbart_mnli.command_line import OneLineParser
from distilbart_mnli.errors import InputError, run_command
from distilbart_mnli.model.configuration import read_config
from distilbart_mnli.model.source import Source
from examples.common import ROOT, answer, filled_in, is_model, markdown, spread
from examples.distillation.plan import TEACHER, Question, Setting, questions

HEAD = (
    "variant", "student", "rows", "epochs", "seeds", "matched", "mismatched", "same as the teacher", "encoder MSE", "s"
)  # fmt: skip


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = OneLineParser(prog="python -m examples.distillation", description=__doc__)
    add = parser.add_argument
    add("--teacher", required=True, metavar="FOLDER_OR_HUB_ID", help="a BART classifier fine-tuned on MNLI")
    add("--data_dir", required=True, type=Path, metavar="FOLDER", help="MNLI's TSV files")
    add("--output_dir", required=True, type=Path, metavar="FOLDER", help="students, runs, encoder cache, results.md")
    add("--train_rows", type=int, default=29340, metavar="N", help="training rows (default: 29340)")
    add("--sweep_rows", type=int, default=8000, metavar="N", help="of what is compared alone (default: 8000)")
    add("--seeds", type=int, nargs="+", default=[1, 2, 3], metavar="SEED", help="(default: 1 2 3)")
    add("--dry_run", action="store_true", help="print the commands that are still to run, and run nothing")
    add("--table_only", action="store_true", help="write the table from the runs that are there")
    args = parser.parse_args(arguments)
    if len(set(args.seeds)) != len(args.seeds):
        raise InputError("--seeds: a number is given twice")
    for name in ("train_rows", "sweep_rows"):
        if getattr(args, name) < 1:
            raise InputError(f"--{name}: must be at least 1, not {getattr(args, name)}")
    return args


def commands(args: argparse.Namespace, asked: list[Question]) -> list[list[str]]:
    """What is still to run: every question with the first seed, then the others."""
    waiting: dict[tuple[str, ...], None] = {}

    def add(words: list[str], done: bool) -> None:
        if not done:
            waiting[tuple(filled_in(words, args.teacher, args.data_dir, args.output_dir))] = None

    for seed in args.seeds:
        for setting in (setting for question in asked for _, setting, seeds in question.rows if seed in seeds):
            if setting.results(args.output_dir, seed):
                continue
            for words, made in setting.before(seed):
                folder = ROOT / args.output_dir / made
                add(
                    words,
                    is_model(folder) and (made.startswith("students/") or (folder / "all_results.json").exists()),
                )
            add(setting.command(seed), False)
    return [list(words) for words in waiting]


def predictions(folder: Path) -> list[str]:
    """Of the matched set, in its order; empty where there are none."""
    try:
        with (folder / "eval_predictions_mnli.tsv").open(encoding="utf-8", newline="") as file:
            return [row["prediction"] for row in csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)]
    except OSError:
        return []


def agreement(folder: Path, teacher: list[str]) -> float | None:
    """Share of the matched rows on which a run says what the teacher says; None where that is not known."""
    found = predictions(folder)
    if not found or len(found) != len(teacher):
        return None
    return sum(mine == its for mine, its in zip(found, teacher, strict=True)) / len(found)


def table_row(output_dir: Path, teacher: list[str], variant: str, setting: Setting, seeds: Sequence[int]) -> list[str]:
    whole = {seed: values for seed in seeds if (values := setting.results(output_dir, seed))}
    passes = [f"{epochs}" for epochs in (setting.fit_epochs, setting.epochs) if epochs]
    row = [variant, setting.student, f"{setting.rows:,}" if setting.rows else "none", " + ".join(passes)]
    if not whole:
        return [*row, "not run", "", "", "", "", ""]
    for seed, values in whole.items():
        values["same"] = agreement(output_dir / setting.folder(seed), teacher)

    def over_seeds(name: str, scale: float, digits: int) -> str:
        found = [scale * values[name] for values in whole.values() if values.get(name) is not None]
        return spread(found, digits) if found else ""

    columns = [("eval_accuracy", 100, 2), ("eval_accuracy_mm", 100, 2), ("same", 100, 1), ("eval_encoder_mse", 1, 4)]
    measured = [over_seeds(*column) for column in (*columns, ("train_runtime", 1, 0))]
    return [*row, ", ".join(map(str, whole)) if setting.rows else "none", *measured]


def tables(output_dir: Path, asked: list[Question]) -> str:
    """One table a question. In percent; mean (lowest..highest) over the seeds."""
    text, first = [], asked[0].rows[0][1]
    assert first.how == TEACHER
    teacher = predictions(output_dir / first.folder(1))
    for question in asked:
        rows = [table_row(output_dir, teacher, *row) for row in question.rows]
        text.append(f"## {question.title}\n\n{markdown(HEAD, rows)}")
    return "\n".join(text)


def main(arguments: Sequence[str] | None = None) -> None:
    args = parse(arguments)
    layers = read_config(Source(args.teacher, "teacher")).encoder_layers
    if layers < 4:
        raise InputError(f"--teacher: half and a third of its encoder are asked for; it has {layers} layers, not 4")
    asked = questions(layers, args.train_rows, args.sweep_rows, args.seeds)
    waiting = [] if args.table_only else commands(args, asked)
    answer(waiting, args.dry_run, args.output_dir / "results.md", lambda: tables(args.output_dir, asked))


if __name__ == "__main__":
    sys.exit(run_command(main))
