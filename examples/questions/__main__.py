"""Questions about the recipe, answered by measurement: every run, then one table a question.

    python -m examples.questions --teacher TEACHER --data_dir glue_data/MNLI --output_dir outputs/questions

makes the students, fine-tunes and evaluates each with run_glue.py, prints every command before it runs, and writes
OUTPUT_DIR/results.md. Run it from the root of the repository. Called again, it skips what is whole and goes on with
the rest; keep one output_dir a teacher. --dry_run prints the commands that are still to run, one a line. --table_only
writes the table from what is there.

Exit codes: 0 done; 1 a run failed; 2 bad input.
"""

import argparse
import os
import shlex
import statistics
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from distilbart_mnli.errors import InputError, RunError, run_command
from distilbart_mnli.model.pretrained import read_config
from distilbart_mnli.model.source import Source
from examples.questions.plan import Plan, Question, Setting, questions, results, runs, student_command

ROOT = Path(__file__).resolve().parent.parent.parent
HEAD = ("variant", "student", "training rows", "epochs", "seeds", "matched", "mismatched", "training, s", "command")


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m examples.questions", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
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


def make_plan(args: argparse.Namespace) -> Plan:
    config = read_config(Source(args.teacher, "teacher"))
    return Plan(
        encoder_layers=config.encoder_layers,
        teacher_decoder_layers=config.decoder_layers,
        decoder_layers=args.decoder_layers,
        main_layers=args.main_layers,
        train_rows=args.train_rows,
        seeds=args.seeds,
    )


def shown(path: Path) -> str:
    """As the commands name it, which run in the repository's root."""
    path = path.resolve()
    return os.path.relpath(path, ROOT) if path.is_relative_to(ROOT) else str(path)


def filled_in(args: argparse.Namespace, words: list[str]) -> list[str]:
    teacher = shown(Path(args.teacher)) if Path(args.teacher).is_dir() else args.teacher
    values = {"$TEACHER": teacher, "$DATA_DIR": shown(args.data_dir), "$OUTPUT_DIR": shown(args.output_dir)}
    for name, value in values.items():
        words = [word.replace(name, value) for word in words]
    return words


def commands(args: argparse.Namespace, plan: Plan) -> list[list[str]]:
    """What is still to run, in order: a student before the first run that needs it."""
    waiting: dict[tuple[str, ...], None] = {}

    def add_student(setting: Setting, seed: int) -> None:
        words = filled_in(args, student_command(plan, setting, seed))
        if words and not (ROOT / words[-1] / "model.safetensors").exists():
            if "--student" in words:  # new layers go into a copied student
                add_student(Setting(setting.student, setting.layers, "copied"), seed)
            waiting[tuple(words)] = None

    for setting, seed in runs(plan):
        if results(args.output_dir / setting.folder(seed), bool(setting.rows)) is None:
            add_student(setting, seed)
            waiting[tuple(filled_in(args, setting.command(seed)))] = None
    return [list(words) for words in waiting]


def execute(words: list[str]) -> int:
    """Run one command line in a process of its own; returns its exit code."""
    paths = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    return subprocess.run([sys.executable, *words[1:]], cwd=ROOT, env={**os.environ, "PYTHONPATH": paths}).returncode


def spread(values: list[float], number: Callable[[float], str]) -> str:
    """ "71.6" of one value, "71.6 (71.2..71.9)" of several."""
    mean = number(statistics.fmean(values))
    return mean if len(values) == 1 else f"{mean} ({number(min(values))}..{number(max(values))})"


def table_row(output_dir: Path, plan: Plan, variant: str, setting: Setting) -> tuple[str, ...]:
    planned = plan.seeds_for(setting)
    found = {seed: results(output_dir / setting.folder(seed), bool(setting.rows)) for seed in planned}
    whole = {seed: values for seed, values in found.items() if values is not None}
    command = f"`{setting.commands(list(whole) or planned)}`"
    rows = f"{setting.rows:,}" if setting.rows else "none"
    settings = (variant, setting.student, rows, str(setting.epochs))
    if not whole:
        return (*settings, "not run", "", "", "", command)

    def over_seeds(name: str, scale: float, digits: int) -> str:
        return spread([scale * values[name] for values in whole.values()], lambda value: f"{value:.{digits}f}")

    return (
        *settings,
        ", ".join(map(str, whole)) if setting.rows else "none",
        over_seeds("eval_accuracy", 100, 2),
        over_seeds("eval_accuracy_mm", 100, 2),
        over_seeds("train_runtime", 1, 0) if setting.rows else "",
        command,
    )


def markdown(output_dir: Path, plan: Plan, asked: list[Question]) -> str:
    """One table a question. Accuracy in percent, mean (lowest..highest) over the seeds."""
    lines: list[str] = []
    for question in asked:
        lines += [f"## {question.title}", ""]
        rows = [table_row(output_dir, plan, variant, setting) for variant, setting in question.rows]
        lines += [f"| {' | '.join(row)} |" for row in (HEAD, ["---"] * len(HEAD), *rows)]
        lines.append("")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    args = parse(arguments)
    plan = make_plan(args)
    waiting = [] if args.table_only else commands(args, plan)
    for number, words in enumerate(waiting, start=1):
        if args.dry_run:
            print(shlex.join(words))
            continue
        print(f"\n[{number}/{len(waiting)}] $ {shlex.join(words)}", flush=True)
        code = execute(words)
        if code != 0:
            raise RunError(f"exit code {code} from: {shlex.join(words)}; call again to go on with the rest")
    if not args.dry_run:
        args.output_dir.mkdir(parents=True, exist_ok=True)
        table = args.output_dir / "results.md"
        table.write_text(markdown(args.output_dir, plan, questions(plan)), encoding="utf-8")
        print(f"the table is in {table}")


if __name__ == "__main__":
    sys.exit(run_command(main))
