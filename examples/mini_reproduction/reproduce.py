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
import contextlib
import json
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT))

from distilbart_mnli.command_line import OneLineParser  # noqa: E402  (needs the line above)
from distilbart_mnli.errors import CommandError, InputError, RunError, run_command  # noqa: E402

STUDENTS = (1, 2, 3, 4)
DATA_FILES = ("train.tsv", "dev_matched.tsv", "dev_mismatched.tsv")
COMPARISON = ("tradeoffs.md", "tradeoffs.csv", "tradeoffs.json", "tradeoffs.png")
SETTINGS = "reproduction.json"
"""What the results in output_dir were made from."""


def run_script(*words: str) -> None:
    """One of the repository's command lines, in a process of its own.

    A signal to this process is passed on once, so that a training can write its checkpoint before it ends.

    Raises:
        CommandError: it failed; with its exit code.
    """
    process = subprocess.Popen([sys.executable, *words], cwd=ROOT, start_new_session=True)
    with passed_on(process):
        code = process.wait()
    if code:
        code = code if code > 0 else 128 - code
        raise CommandError(f"{words[0]} ended with code {code}; run this again and it goes on from there", code)


@contextlib.contextmanager
def passed_on(process: subprocess.Popen) -> Iterator[None]:
    """Ctrl-C and what ends this process go to `process` instead."""
    before = {}
    try:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            before[number] = signal.signal(number, lambda received, _: process.send_signal(received))
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class Reproduction:
    """The steps, each with the test whether it is done."""

    def __init__(self, args: argparse.Namespace):
        self.args, self.folder = args, args.output_dir
        self.done = self.skipped = 0

    def shown(self, path: Path | str) -> str:
        """A path as the commands get it: they run in the repository's folder."""
        path = Path(path)
        return str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else str(path)

    def step(self, whole: bool, *words: object) -> None:
        """Run a command line unless its output is whole."""
        line = shlex.join(map(str, words))
        if whole:
            self.skipped += 1
            print(f"\n# done already: python {line}", flush=True)
            return
        print(f"\n$ python {line}", flush=True)
        run_script(*map(str, words))
        self.done += 1

    def glue(self, whole: bool, file: str, model: str, output: str) -> None:
        """One run of run_glue.py with args/mini/`file`."""
        words = ["run_glue.py", f"args/mini/{file}", "--model_name_or_path", self.shown(self.folder / model)]
        words += ["--data_dir", self.shown(self.args.data_dir), "--output_dir", self.shown(self.folder / output)]
        words += ["--encoder_cache_dir", self.shown(self.folder / "encoder_cache")]
        if file != "evaluate.json":
            words += ["--resume_from_checkpoint", "true"]
            if self.args.max_train_samples is not None:
                words += ["--max_train_samples", str(self.args.max_train_samples)]
        self.step(whole, *words)

    def train(self, file: str, model: str, output: str) -> None:
        """A training and its evaluation; whole once there are results and the model card, which is written last."""
        results = read_json(self.folder / output / "all_results.json")
        card = (self.folder / output / "README.md").is_file()
        self.glue(card and {"train_runtime", "eval_accuracy_mm"} <= results.keys(), file, model, output)

    def copy(self, number: int, student: str, copied: str) -> None:
        """A student's layers copied, and evaluated as they are."""
        words = ["create_student.py", "--teacher_model_name_or_path", self.shown(self.folder / "teacher")]
        words += ["--student_decoder_layers", str(number), "--save_path", self.shown(self.folder / student)]
        self.step(is_model(self.folder / student), *words)
        evaluated = "eval_accuracy_mm" in read_json(self.folder / copied / "all_results.json")
        self.glue(evaluated, "evaluate.json", student, copied)

    def compare(self, models: list[str]) -> None:
        """The trade-off sheet; done again when it was made with another zero-shot file."""
        output, zero_shot = self.folder / "tradeoffs", self.args.zero_shot
        words = ["compare_models.py", *(self.shown(self.folder / name) for name in models)]
        words += ["--data_dir", self.shown(self.args.data_dir), "--output_dir", self.shown(output)]
        if zero_shot:
            words += ["--zero_shot", self.shown(zero_shot)]
        settings = read_json(self.folder / SETTINGS)
        whole = all((output / name).is_file() for name in COMPARISON) and settings.get("compared") == words
        self.step(whole, *words)
        write_json(self.folder / SETTINGS, {**settings, "compared": words})

    def run(self) -> str:
        """All steps; returns the table.

        Raises:
            InputError: output_dir holds the results of other settings.
            CommandError: a step failed; with its exit code.
        """
        self.check_settings()
        words = ["examples/mini_reproduction/bert_to_bart.py", "--bert", self.args.bert]
        words += ["--revision", self.args.revision, "--save_path", self.shown(self.folder / "untrained")]
        self.step(is_model(self.folder / "untrained"), *words)
        layers = read_json(self.folder / "untrained" / "config.json")["decoder_layers"]
        self.train("teacher.json", "untrained", "teacher")
        rows = [(f"teacher {layers}-{layers}", "", "teacher")]
        models = ["teacher"]
        for number in (number for number in STUDENTS if number < layers):
            name = f"{layers}-{number}"
            student, copied, tuned = f"student-{name}", f"copied-{name}", f"distilbart-mnli-{name}"
            self.copy(number, student, copied)
            self.train(f"distilbart-mnli-6-{number}.json", student, tuned)
            rows.append((f"student {name}", copied, tuned))
            models.append(tuned)
        table = self.table(rows)
        try:
            (self.folder / "table.md").write_text(table, encoding="utf-8")
        except OSError as error:
            raise RunError(f"{self.folder / 'table.md'} could not be written: {error.strerror}") from None
        self.compare(models)
        return table

    def check_settings(self) -> None:
        """Remember what the results are made from; refuse to mix them with those of something else."""
        args = self.args
        asked = {
            "bert": args.bert,
            "revision": args.revision,
            "data_dir": str(args.data_dir),
            "max_train_samples": args.max_train_samples,
        }
        path = self.folder / SETTINGS
        before = read_json(path)
        for key, value in asked.items():
            if key in before and before[key] != value:
                raise InputError(
                    f"{self.shown(self.folder)} holds a reproduction with {key} {before[key]}, not {value}; name "
                    "another output_dir, or remove this one"
                )
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            write_json(path, {**before, **asked})
        except OSError as error:
            raise InputError(f"output_dir {self.folder}: cannot be written: {error.strerror}") from None

    def table(self, rows: list[tuple[str, str, str]]) -> str:
        """Markdown: accuracies in percent before and after fine-tuning, seconds of the training loop."""
        lines = [
            "| model | copied, matched | copied, mismatched | tuned, matched | tuned, mismatched | training loop, s |",
            "|---|---|---|---|---|---|",
        ]
        for name, *folders in rows:
            copied, tuned = (read_json(self.folder / f / "all_results.json") if f else {} for f in folders)
            cells = [percent(values, key) for values in (copied, tuned) for key in ("accuracy", "accuracy_mm")]
            lines.append(f"| {name} | {' | '.join(cells)} | {tuned['train_runtime']:.0f} |")
        results = read_json(self.folder / "teacher" / "all_results.json")
        lines += [
            "",
            f"{results['train_samples']:,} training examples; evaluated on {results['eval_samples']:,} matched and "
            f"{results['eval_samples_mm']:,} mismatched examples. Accuracies in percent.",
        ]
        return "\n".join(lines) + "\n"


def percent(results: dict[str, Any], key: str) -> str:
    return f"{100 * results[f'eval_{key}']:.2f}" if results else ""


def is_model(folder: Path) -> bool:
    """Whether a model stands in `folder`. Both scripts that make one rename it into place when it is whole."""
    return (folder / "config.json").is_file() and (folder / "model.safetensors").is_file()


def read_json(path: Path) -> dict[str, Any]:
    """A file's object; empty where there is none, or none that can be read."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return values if isinstance(values, dict) else {}


def write_json(path: Path, values: dict[str, Any]) -> None:
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
    partial.replace(path)


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
    shown = reproduction.shown(args.output_dir)
    print(f"{reproduction.done} steps done, {reproduction.skipped} were done before; everything is in {shown}")


if __name__ == "__main__":
    sys.exit(run_command(main))
