"""The main job at toy size, with nothing downloaded: make quickstart.

    python examples/quickstart/quickstart.py [--output_dir outputs/quickstart]

1. make_data.py writes a small NLI data set; make_tokenizer.py trains a tokenizer on it.
2. run_glue.py trains a teacher from scratch (args/quickstart/teacher.json).
3. create_student.py copies one, and two, of its decoder layers; run_glue.py evaluates what was copied.
4. run_glue.py fine-tunes both with the recipe's freezing (args/quickstart/student.json). Both read one encoder cache.
5. One table, and a zero-shot prediction through transformers' stock pipeline.

Every step is one of the repository's command lines, printed before it runs.
"""

import argparse
import json
import os
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from transformers import BartConfig, pipeline
from transformers.utils import logging

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT))

from examples.quickstart.make_data import SIZES, make_examples, write_data  # noqa: E402  (needs the line above)
from examples.quickstart.make_tokenizer import make_tokenizer  # noqa: E402

STUDENTS = (1, 2)
TEACHER = {"d_model": 64, "encoder_layers": 2, "decoder_layers": 3, "attention_heads": 2, "ffn_dim": 256}


def run(script: str, *arguments: object) -> None:
    """One of the command lines of the repository; stops the quickstart if it fails."""
    words = [script, *map(str, arguments)]
    print(f"\n$ python {shlex.join(words)}", flush=True)
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    done = subprocess.run([sys.executable, *words], cwd=ROOT, env=environment)
    if done.returncode != 0:
        raise SystemExit(done.returncode)


def make_teacher_config(folder: Path) -> None:
    """A configuration and a tokenizer: what run_glue.py's config_name needs to train from scratch."""
    texts = [text for row in make_examples(SIZES)["train"] for text in row[1:3]]
    tokenizer = make_tokenizer(texts, vocab_size=800)
    heads, ffn = TEACHER["attention_heads"], TEACHER["ffn_dim"]
    labels = ("contradiction", "neutral", "entailment")  # the order of facebook/bart-large-mnli
    BartConfig(
        vocab_size=len(tokenizer),
        d_model=TEACHER["d_model"],
        encoder_layers=TEACHER["encoder_layers"],
        decoder_layers=TEACHER["decoder_layers"],
        encoder_attention_heads=heads,
        decoder_attention_heads=heads,
        encoder_ffn_dim=ffn,
        decoder_ffn_dim=ffn,
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


def row(name: str, model: Path, results: Path) -> dict[str, Any]:
    """One line of the table, from the files of a run."""
    values = json.loads((results / "all_results.json").read_text(encoding="utf-8"))
    seconds = values["eval_runtime"] + values["eval_runtime_mm"]
    from transformers import BartForSequenceClassification

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
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--output_dir", type=Path, default=Path("outputs/quickstart"))
    folder = parser.parse_args().output_dir.resolve()
    started = time.monotonic()
    if (folder / "data").exists():
        shutil.rmtree(folder)  # an earlier quickstart
    data, cache = folder / "data", folder / "cache"
    write_data(data, SIZES)
    make_teacher_config(folder / "teacher-config")
    shown = os.path.relpath(folder, ROOT)
    common = ("--data_dir", f"{shown}/data", "--encoder_cache_dir", os.path.relpath(cache, ROOT))

    teacher = folder / "teacher"
    run(
        "run_glue.py", "args/quickstart/teacher.json", "--config_name", f"{shown}/teacher-config",
        "--output_dir", f"{shown}/teacher", *common,
    )  # fmt: skip
    rows = [row("teacher", teacher, teacher)]
    for layers in STUDENTS:
        name = f"student-{TEACHER['encoder_layers']}-{layers}"
        run(
            "create_student.py", "--teacher_model_name_or_path", f"{shown}/teacher",
            "--student_encoder_layers", TEACHER["encoder_layers"], "--student_decoder_layers", layers,
            "--save_path", f"{shown}/{name}",
        )  # fmt: skip
        run(
            "run_glue.py", "args/quickstart/evaluate.json", "--model_name_or_path", f"{shown}/{name}",
            "--output_dir", f"{shown}/{name}-copied", *common,
        )  # fmt: skip
        run(
            "run_glue.py", "args/quickstart/student.json", "--model_name_or_path", f"{shown}/{name}",
            "--output_dir", f"{shown}/{name}-tuned", *common,
        )  # fmt: skip
        rows.append(row(f"{name}, copied", folder / name, folder / f"{name}-copied"))
        rows.append(row(f"{name}, fine-tuned", folder / f"{name}-tuned", folder / f"{name}-tuned"))
    print()
    show(rows)

    logging.set_verbosity_error()
    classifier = pipeline("zero-shot-classification", model=str(folder / f"student-2-{STUDENTS[-1]}-tuned"))
    text = "A girl buys a guitar."
    answer = classifier(text, ["music", "cooking", "travel"], hypothesis_template="This text is about {}.")
    scores = ", ".join(f"{label} {score:.2f}" for label, score in zip(answer["labels"], answer["scores"], strict=True))
    print(f"\nzero-shot, by the student: {text!r} -> {scores}")
    print(f"done in {time.monotonic() - started:.0f} s; everything is in {shown}")


if __name__ == "__main__":
    main()
