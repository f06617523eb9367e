"""Questions about the recipe, answered by measurement: every run, then one table a question.

    python -m examples.questions --teacher TEACHER --data_dir glue_data/MNLI --output_dir outputs/questions

makes the students, fine-tunes and evaluates each with run_glue.py, prints every command before it runs, and writes
OUTPUT_DIR/results.md. Run it from the root of the repository. Called again, it skips what is whole and goes on with
the rest; keep one output_dir a teacher. --dry_run prints the commands that are still to run, one a line. --table_only
writes the table from what is there.

Exit codes: 0 done; 1 a run failed; 2 bad input; 128 + n stopped by signal n.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from distilbart_mnli.command_line import OneLineParser
from distilbart_mnli.errors import InputError, run_command
from distilbart_mnli.model.configuration import read_config
from distilbart_mnli.model.source import Source
from examples.common import ROOT, answer, filled_in, is_model, markdown, spread
from examples.questions.plan import Plan, Setting, questions, runs, student_command

HEAD = ("variant", "student", "training rows", "epochs", "seeds", "matched", "mismatched", "training, s", "command")


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = OneLineParser(prog="python -m examples.questions", description=__doc__)
    add = parser.add_argument
    add("--teacher", required=True, metavar="FOLDER_OR_HUB_ID", help="a BART classifier fine-tuned on MNLI")
    add("--data_dir", required=True, type=Path, metavar="FOLDER", help="MNLI's TSV files")
    add("--output_dir", required=True, type=Path, metavar="FOLDER", help="students, runs, encoder cache, results.md")
    add("--decoder_layers", type=int, nargs="+", default=[1, 2, 3, 4], metavar="N", help="students (default: 1 2 3 4)")
    add("--main_layers", type=int, nargs="+", default=[1, 3], metavar="N", help="those with every seed (default: 1 3)")
    add("--train_rows", type=int, default=4000, metavar="N", help="training rows of every run (default: 4000)")
    add("--seeds", type=int, nargs="+", default=[1, 2, 3], metavar="SEED", help="(default: 1 2 3)")
    add("--dry_run", action="store_true", help="print the commands that are still to run, and run nothing")
    add("--table_only", action="store_true", help="write the table from the runs that are there")
    args = parser.parse_args(arguments)
    for name in ("decoder_layers", "main_layers", "seeds"):
        if len(set(getattr(args, name))) != len(getattr(args, name)):
            raise InputError(f"--{name}: a number is given twice")
    if not set(args.main_layers) <= set(args.decoder_layers):
        raise InputError("--main_layers: must be among --decoder_layers")
    if args.train_rows < 1:
        raise InputError(f"--train_rows: must be at least 1, not {args.train_rows}")
    return args


def commands(args: argparse.Namespace, plan: Plan) -> list[list[str]]:
    """What is still to run, in order: a student before the first run that needs it."""
    waiting: dict[tuple[str, ...], None] = {}

    def add_student(setting: Setting, seed: int) -> None:
        words = filled_in(student_command(plan, setting, seed), args.teacher, args.data_dir, args.output_dir)
        if words and not is_model(ROOT / words[-1]):
            if "--student" in words:  # new layers go into a copied student
                add_student(Setting(setting.student, setting.layers, "copied"), seed)
            waiting[tuple(words)] = None

    for setting, seed in runs(plan):
        if not setting.results(args.output_dir, seed):
            add_student(setting, seed)
            waiting[tuple(filled_in(setting.command(seed), args.teacher, args.data_dir, args.output_dir))] = None
    return [list(words) for words in waiting]


def table_row(output_dir: Path, plan: Plan, variant: str, setting: Setting) -> tuple[str, ...]:
    planned = plan.seeds_for(setting)
    whole = {seed: values for seed in planned if (values := setting.results(output_dir, seed))}
    command = f"`{setting.commands(list(whole) or planned)}`"
    rows = f"{setting.rows:,}" if setting.rows else "none"
    settings = (variant, setting.student, rows, str(setting.epochs))
    if not whole:
        return (*settings, "not run", "", "", "", command)

    def over_seeds(name: str, scale: float, digits: int) -> str:
        return spread([scale * values[name] for values in whole.values()], digits)

    return (
        *settings,
        ", ".join(map(str, whole)) if setting.rows else "none",
        over_seeds("eval_accuracy", 100, 2),
        over_seeds("eval_accuracy_mm", 100, 2),
        over_seeds("train_runtime", 1, 0) if setting.rows else "",
        command,
    )


def tables(output_dir: Path, plan: Plan) -> str:
    """One table a question. Accuracy in percent, mean (lowest..highest) over the seeds."""
    text = []
    for question in questions(plan):
        rows = [table_row(output_dir, plan, variant, setting) for variant, setting in question.rows]
        text.append(f"## {question.title}\n\n{markdown(HEAD, rows)}")
    return "\n".join(text)


def main(arguments: Sequence[str] | None = None) -> None:
    args = parse(arguments)
    config = read_config(Source(args.teacher, "teacher"))
    names = ("decoder_layers", "main_layers", "train_rows", "seeds")
    plan = Plan(config.encoder_layers, config.decoder_layers, **{name: getattr(args, name) for name in names})
    waiting = [] if args.table_only else commands(args, plan)
    answer(waiting, args.dry_run, args.output_dir / "results.md", lambda: tables(args.output_dir, plan))


if __name__ == "__main__":
    sys.exit(run_command(main))
