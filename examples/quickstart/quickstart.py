"""The main job at toy size, with nothing downloaded: make quickstart.

    python -m examples.quickstart [--output_dir outputs/quickstart]    # or: python examples/quickstart/quickstart.py
    python -m examples.quickstart --seeds 10                           # does it come out alike everywhere? (seeds.py)

1. make_data.py writes a small NLI data set and the configuration of a teacher.
2. run_glue.py trains the teacher from nothing (args/quickstart/teacher.json).
3. create_student.py copies one, and two, of its three decoder layers; run_glue.py evaluates what was copied.
4. run_glue.py fine-tunes both with the recipe's freezing (args/quickstart/student.json). Both read one encoder cache.
5. Stock transformers answers five zero-shot questions; compare_models.py measures, and draws accuracy against speed.

Every step is one of the repository's commands, printed before it runs. Exit codes: theirs; with --seeds, 1 where a
bound does not hold.
"""

import json
import shutil
import sys
import time
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from distilbart_mnli.command_line import OneLineParser
from distilbart_mnli.errors import InputError, run_command
from examples.common import shown
from examples.quickstart import seeds
from examples.quickstart.story import LOG, STUDENTS, TEMPLATE, TEXTS, Stages, answers, train

COPIES = [f"{name}-copied" for name in STUDENTS]
MADE = ["data", "teacher-config", "teacher", *STUDENTS, *COPIES, "cache", "sheet", "seeds"]
NEXT = """next, with the real teacher (all four students of 2020 by one script: examples/four_students/):
  source .venv/bin/activate
  python create_student.py --teacher_model_name_or_path facebook/bart-large-mnli \\
      --student_encoder_layers 12 --student_decoder_layers 3 --save_path student-bart-mnli-12-3"""


def prepare(folder: Path) -> None:
    """Make the folder, or remove what an earlier quickstart made in it.

    Raises:
        InputError: something else stands there.
    """
    if folder.exists() and not (folder.is_dir() and ((folder / LOG).is_file() or not any(folder.iterdir()))):
        raise InputError(f"--output_dir {folder} is no folder of an earlier quickstart; give a new or an empty one")
    for name in MADE:
        shutil.rmtree(folder / name, ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / LOG).touch()


def show(folder: Path) -> None:
    """The whole story, told."""
    started = time.monotonic()
    with (folder / LOG).open("w", encoding="utf-8", buffering=1) as log:
        stages = Stages(folder, log)
        train(stages)
        print("\nzero-shot, by student-2-1 and stock transformers:")
        for text, (topic, score) in answers(folder / "student-2-1").items():
            print(f"  {text:42} {topic:8} {score:.2f}{'' if topic == TEXTS[text] else f' (wrong: {TEXTS[text]})'}")
        topics = folder / "data" / "topics.jsonl"
        rows = [json.dumps({"text": text, "label": label}) + "\n" for text, label in TEXTS.items()]
        topics.write_text("".join(rows), encoding="utf-8")
        models = [f"{stages.here}/{name}" for name in ("teacher", "student-2-1-copied", *STUDENTS)]
        words = ["--data_dir", f"{stages.here}/data", "--output_dir", f"{stages.here}/sheet", "--repetitions", 3]
        words += ["--max_seq_length", 64, "--zero_shot", shown(topics), "--hypothesis_template", TEMPLATE]
        print("\nSpeed, and memory in a process of its own for each model: half a minute.")
        stages.run("compare_models.py", *models, *words, out=sys.stdout)
    print(
        f"\nthe picture: {stages.here}/sheet/tradeoffs.png; all of it in {time.monotonic() - started:.0f} s\n\n{NEXT}"
    )


def main() -> None:
    parser = OneLineParser(prog="python -m examples.quickstart", description=__doc__)
    add = parser.add_argument
    add("--output_dir", type=Path, default=Path("outputs/quickstart"), metavar="FOLDER", help="(outputs/quickstart)")
    add("--seeds", type=int, metavar="N", help="train with N seeds and both float32 products instead, for a table")
    args = parser.parse_args()
    if args.seeds is not None and args.seeds < 1:
        parser.error("--seeds: must be at least 1")
    folder = args.output_dir.expanduser().resolve()
    prepare(folder)
    torch.set_num_threads(1)  # layers this small gain nothing from a second one, and lose much on a busy machine
    if args.seeds:
        seeds.show(folder, args.seeds)
    else:
        show(folder)


if __name__ == "__main__":
    sys.exit(run_command(main))
