"""The main job at toy size, with nothing downloaded: make quickstart.

    python examples/quickstart/quickstart.py [--output_dir outputs/quickstart]

1. make_data.py writes a small NLI data set; make_tokenizer.py trains a tokenizer on it.
2. run_glue.py trains a teacher from scratch (args/quickstart/teacher.json).
3. create_student.py copies one, and two, of its decoder layers; run_glue.py evaluates what was copied.
4. run_glue.py fine-tunes both with the recipe's freezing (args/quickstart/student.json). Both read one encoder cache.
5. One table, and a zero-shot prediction through transformers' stock pipeline.

Every step is one of the repository's command lines, printed before it runs.
"""

import os
import shutil
import sys
import time
from pathlib import Path
from typing import Any

from transformers import BartConfig, BartForSequenceClassification, pipeline
from transformers.utils import logging

sys.path.insert(0, str(Path(__file__).resolve().parent.parent.parent))

from distilbart_mnli.command_line import OneLineParser
from distilbart_mnli.errors import run_command
from examples.common import Steps, results, shown
from examples.quickstart.make_data import SIZES, make_examples, write_data
from examples.quickstart.make_tokenizer import make_tokenizer

STUDENTS = (1, 2)
TEACHER = {"d_model": 64, "encoder_layers": 2, "decoder_layers": 3}


def make_teacher_config(folder: Path) -> None:
    """A configuration and a tokenizer: what run_glue.py's config_name needs to train from scratch."""
    texts = [text for row in make_examples(SIZES)["train"] for text in row[1:3]]
    tokenizer = make_tokenizer(texts, vocab_size=800)
    labels = ("contradiction", "neutral", "entailment")  # the order of facebook/bart-large-mnli
    BartConfig(
        vocab_size=len(tokenizer),
        **TEACHER,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=256,
        decoder_ffn_dim=256,
        max_position_embeddings=64,
        dropout=0.0,
        attention_dropout=0.0,
        classifier_dropout=0.0,
        init_std=0.05,
        id2label=dict(enumerate(labels)),
        label2id={label: index for index, label in enumerate(labels)},
        architectures=["BartForSequenceClassification"],
    ).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def row(name: str, model: Path, folder: Path) -> dict[str, Any]:
    """One line of the table, from the files of a run."""
    values = results(folder)
    seconds = values["eval_runtime"] + values["eval_runtime_mm"]
    parameters = BartForSequenceClassification.from_pretrained(model).num_parameters()
    return {
        "model": name,
        "matched": f"{100 * values['eval_accuracy']:.1f}",
        "mismatched": f"{100 * values['eval_accuracy_mm']:.1f}",
        "parameters": f"{parameters:,}",
        "MB (fp32)": f"{(model / 'model.safetensors').stat().st_size / 1e6:.2f}",
        "examples/s": f"{(values['eval_samples'] + values['eval_samples_mm']) / seconds:.0f}",
    }


def show(rows: list[dict[str, Any]]) -> None:
    widths = {key: max(len(key), *(len(str(line[key])) for line in rows)) for key in rows[0]}
    for line in [{key: key for key in rows[0]}, *rows]:
        print("  ".join(str(line[key]).ljust(width) for key, width in widths.items()))


def main() -> None:
    parser = OneLineParser(prog="quickstart.py", description=__doc__)
    parser.add_argument("--output_dir", type=Path, default=Path("outputs/quickstart"))
    folder = parser.parse_args().output_dir.resolve()
    started = time.monotonic()
    if (folder / "data").exists():
        shutil.rmtree(folder)  # an earlier quickstart
    write_data(folder / "data", SIZES)
    make_teacher_config(folder / "teacher-config")
    os.environ["HF_HUB_OFFLINE"] = "1"  # of the steps
    run, here = Steps().run, shown(folder)
    common = ("--data_dir", f"{here}/data", "--encoder_cache_dir", f"{here}/cache")

    def glue(recipe: str, output: str, *words: str) -> Path:
        """One run of run_glue.py with args/quickstart/`recipe`; returns its folder."""
        run("run_glue.py", f"args/quickstart/{recipe}.json", *words, "--output_dir", f"{here}/{output}", *common)
        return folder / output

    teacher = glue("teacher", "teacher", "--config_name", f"{here}/teacher-config")
    rows = [row("teacher", teacher, teacher)]
    for layers in STUDENTS:
        name = f"student-{TEACHER['encoder_layers']}-{layers}"
        words = ["--teacher_model_name_or_path", f"{here}/teacher", "--save_path", f"{here}/{name}"]
        words += ["--student_encoder_layers", TEACHER["encoder_layers"], "--student_decoder_layers", layers]
        run("create_student.py", *words)
        copied = glue("evaluate", f"{name}-copied", "--model_name_or_path", f"{here}/{name}")
        tuned = glue("student", f"{name}-tuned", "--model_name_or_path", f"{here}/{name}")
        rows += [row(f"{name}, copied", folder / name, copied), row(f"{name}, fine-tuned", tuned, tuned)]
    print()
    show(rows)

    logging.set_verbosity_error()
    classifier = pipeline("zero-shot-classification", model=str(folder / f"student-2-{STUDENTS[-1]}-tuned"))
    text = "A girl buys a guitar."
    answer = classifier(text, ["music", "cooking", "travel"], hypothesis_template="This text is about {}.")
    scores = ", ".join(f"{label} {score:.2f}" for label, score in zip(answer["labels"], answer["scores"], strict=True))
    print(f"\nzero-shot, by the student: {text!r} -> {scores}")
    print(f"done in {time.monotonic() - started:.0f} s; everything is in {here}")


if __name__ == "__main__":
    sys.exit(run_command(main))
