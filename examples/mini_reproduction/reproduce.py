"""The whole table of the main job at a size that anyone can run: make mini-reproduction BERT=... DATA_DIR=...

    python examples/mini_reproduction/reproduce.py --bert sentence-transformers/all-MiniLM-L6-v2 \\
        --data_dir glue_data/MNLI [--zero_shot topics.jsonl] [--output_dir outputs/mini_reproduction]

1. bert_to_bart.py makes a BART classifier out of a BERT encoder; run_glue.py trains it (args/mini/teacher.json).
2. create_student.py copies 1, 2, 3 and 4 of its decoder layers; run_glue.py evaluates what was copied.
3. run_glue.py fine-tunes each with the recipe's freezing (args/mini/distilbart-mnli-6-N.json), all from one encoder
   cache.
4. compare_models.py measures the teacher and the students.
5. One table, also in table.md.

Every step is one of the repository's command lines, printed before it runs. A step whose output is whole is not done
again, and a training that was stopped goes on from its newest checkpoint: after any interruption, run the same command
again.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent.parent))

from distilbart_mnli.command_line import OneLineParser
from distilbart_mnli.errors import InputError, RunError, run_command
from distilbart_mnli.files import atomic_file
from examples.common import Steps, is_model, markdown, read_json, results, shown

STUDENTS = (1, 2, 3, 4)
DATA_FILES = ("train.tsv", "dev_matched.tsv", "dev_mismatched.tsv")
HEAD = ("model", "copied, matched", "copied, mismatched", "tuned, matched", "tuned, mismatched", "training loop, s")
SETTINGS = "reproduction.json"
"""What the results in output_dir were made from."""


class Reproduction:
    """The steps, each with the test whether it is done."""

    def __init__(self, args: argparse.Namespace):
        self.args, self.folder, self.steps = args, args.output_dir, Steps()

    def glue(self, file: str, model: str, output: str) -> None:
        """One run of run_glue.py with args/mini/`file`. A training is whole with its model card, written last."""
        words = ["run_glue.py", f"args/mini/{file}", "--model_name_or_path", shown(self.folder / model)]
        words += ["--data_dir", shown(self.args.data_dir), "--output_dir", shown(self.folder / output)]
        words += ["--encoder_cache_dir", shown(self.folder / "encoder_cache")]
        whole = results(self.folder / output, "eval_accuracy_mm") != {}
        if file != "evaluate.json":
            words += ["--resume_from_checkpoint", "true", *self.given("max_train_samples")]
            whole = whole and (self.folder / output / "README.md").is_file()
        self.steps.run(*words, *self.given("max_eval_samples"), whole=whole)

    def given(self, option: str) -> list[str]:
        """The option as it was given to this script, for those that it runs."""
        value = getattr(self.args, option)
        return [] if value is None else [f"--{option}", str(value)]

    def compare(self, models: list[str]) -> None:
        """The trade-off sheet; done again when it was made with another zero-shot file."""
        words = ["compare_models.py", *(shown(self.folder / name) for name in models)]
        words += ["--data_dir", shown(self.args.data_dir), "--output_dir", shown(self.folder / "tradeoffs")]
        words += self.given("max_eval_samples")
        if self.args.zero_shot:
            words += ["--zero_shot", shown(self.args.zero_shot)]
        settings = read_json(self.folder / SETTINGS)
        whole = (self.folder / "tradeoffs" / "tradeoffs.md").is_file() and settings.get("compared") == words
        self.steps.run(*words, whole=whole)
        write_json(self.folder / SETTINGS, {**settings, "compared": words})

    def run(self) -> str:
        """All steps; returns the table.

        Raises:
            InputError: output_dir holds the results of other settings.
            CommandError: a step failed; with its exit code.
        """
        self.check_settings()
        words = ["examples/mini_reproduction/bert_to_bart.py", "--bert", self.args.bert]
        words += ["--revision", self.args.revision, "--save_path", shown(self.folder / "untrained")]
        self.steps.run(*words, whole=is_model(self.folder / "untrained"))
        layers = read_json(self.folder / "untrained" / "config.json")["decoder_layers"]
        self.glue("teacher.json", "untrained", "teacher")
        rows = [(f"teacher {layers}-{layers}", "", "teacher")]
        for number in (number for number in STUDENTS if number < layers):
            name = f"{layers}-{number}"
            student, copied, tuned = f"student-{name}", f"copied-{name}", f"distilbart-mnli-{name}"
            words = ["create_student.py", "--teacher_model_name_or_path", shown(self.folder / "teacher")]
            words += ["--student_decoder_layers", str(number), "--save_path", shown(self.folder / student)]
            self.steps.run(*words, whole=is_model(self.folder / student))
            self.glue("evaluate.json", student, copied)
            self.glue(f"distilbart-mnli-6-{number}.json", student, tuned)
            rows.append((f"student {name}", copied, tuned))
        table = self.table(rows)
        with atomic_file(self.folder / "table.md") as file:
            file.write_text(table, encoding="utf-8")
        self.compare([tuned for *_, tuned in rows])
        return table

    def check_settings(self) -> None:
        """Remember what the results are made from; refuse to mix them with those of something else."""
        names = ("bert", "revision", "max_train_samples", "max_eval_samples")
        asked = {"data_dir": str(self.args.data_dir), **{name: getattr(self.args, name) for name in names}}
        path = self.folder / SETTINGS
        before = read_json(path)
        for key, value in asked.items():
            if key in before and before[key] != value:
                holds = f"{shown(self.folder)} holds a reproduction with {key} {before[key]}"
                raise InputError(f"{holds}, not {value}; name another output_dir, or remove this one")
        try:
            write_json(path, {**before, **asked})
        except RunError as error:
            raise InputError(f"output_dir cannot be used: {error}") from None

    def table(self, rows: list[tuple[str, str, str]]) -> str:
        """Markdown: accuracies in percent before and after fine-tuning, seconds of the training loop."""
        lines = []
        for name, *folders in rows:
            both = [results(self.folder / folder) if folder else {} for folder in folders]
            figures = [values.get(key) for values in both for key in ("eval_accuracy", "eval_accuracy_mm")]
            cells = ["" if figure is None else f"{100 * figure:.2f}" for figure in figures]
            lines.append((name, *cells, f"{both[1]['train_runtime']:.0f}"))
        teacher = results(self.folder / "teacher")
        return (
            f"{markdown(HEAD, lines)}\n{teacher['train_samples']:,} training examples; evaluated on "
            f"{teacher['eval_samples']:,} matched and {teacher['eval_samples_mm']:,} mismatched examples. "
            "Accuracies in percent.\n"
        )


def write_json(path: Path, values: dict[str, Any]) -> None:
    with atomic_file(path) as file:
        file.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")


def read_arguments(argv: list[str]) -> argparse.Namespace:
    """Raises InputError, of one line, for what is missing or cannot be used."""
    parser = OneLineParser(prog="reproduce.py", description=__doc__)
    add = parser.add_argument
    add("--bert", default="", metavar="FOLDER_OR_HUB_ID", help="the BERT encoder that the teacher is made from")
    add("--revision", default="main", metavar="REVISION", help="branch, tag or commit of a BERT on the Hub")
    add("--data_dir", default="", metavar="FOLDER", help="MNLI's TSV files (download_glue_data.py makes them)")
    add("--output_dir", default="outputs/mini_reproduction", metavar="FOLDER", help="where everything goes")
    add("--zero_shot", metavar="FILE.jsonl", help="texts and topics for compare_models.py")
    add("--max_train_samples", type=int, metavar="N", help="the first N training examples only")
    add("--max_eval_samples", type=int, metavar="N", help="the first N examples of each evaluation set only")
    args = parser.parse_args(argv)
    for name, what in (("bert", "a BERT's folder or Hub id"), ("data_dir", "the folder with MNLI's TSV files")):
        if not getattr(args, name):
            raise InputError(
                f"{name} is missing: {what}; for example make mini-reproduction "
                "BERT=sentence-transformers/all-MiniLM-L6-v2 DATA_DIR=glue_data/MNLI"
            )
    if Path(args.bert).is_dir():
        args.bert = str(Path(args.bert).resolve())
    args.data_dir, args.output_dir = Path(args.data_dir).resolve(), Path(args.output_dir).resolve()
    if missing := [name for name in DATA_FILES if not (args.data_dir / name).is_file()]:
        raise InputError(
            f"data_dir {args.data_dir}: {', '.join(missing)} missing; `python download_glue_data.py --data_dir "
            "glue_data --tasks MNLI` makes glue_data/MNLI"
        )
    if args.zero_shot:
        args.zero_shot = Path(args.zero_shot).resolve()
        if not args.zero_shot.is_file():
            raise InputError(f"zero_shot {args.zero_shot}: no such file")
    return args


def main() -> None:
    args = read_arguments(sys.argv[1:])
    reproduction = Reproduction(args)
    table = reproduction.run()
    print(f"\n{table}")
    steps = reproduction.steps
    print(f"{steps.done} steps done, {steps.skipped} were done before; everything is in {shown(args.output_dir)}")


if __name__ == "__main__":
    sys.exit(run_command(main))
