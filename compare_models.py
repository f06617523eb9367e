"""Measure models side by side: size, accuracy, agreement with the teacher, zero-shot topics, speed, memory.

    python compare_models.py facebook/bart-large-mnli distilbart-mnli-12-1 distilbart-mnli-12-3 \\
        --data_dir glue_data/MNLI --output_dir tradeoffs --zero_shot ag_news_test.jsonl

The first model is the teacher. Writes tradeoffs.md, .csv, .json and .png. With --update_model_dirs each model's own
figures go into a tradeoffs.json in its folder, and the model card there is written again with them. A model that
cannot be used is reported and left out; the others are measured all the same. All of them are in memory at once, in
float32: 1.6 GB for bart-large-mnli, 0.9 to 1.4 GB for each of its students.

Exit codes: 0 done; 1 a model failed while it ran; 2 bad input, or a model that cannot be used; 3 the Hub refused.
"""

import argparse
import sys

from distilbart_mnli.command_line import OneLineParser, file_path, path_or_id, positive
from distilbart_mnli.errors import run_command

# What people type, above all the options of run_glue.py -> what it is called here.
MEANT = {
    **dict.fromkeys(
        ("models", "model", "model_name_or_path", "student", "students"), "models are given without a name"
    ),
    **dict.fromkeys(("teacher", "teacher_model_name_or_path"), "the first model is the teacher"),
    **dict.fromkeys(("output", "out", "save_path"), "did you mean --output_dir?"),
    **dict.fromkeys(("device", "use_cpu", "no_cuda", "cpu"), "did you mean --devices?"),
    **dict.fromkeys(("fp16", "dtype"), "float32, or --bf16"),
    **dict.fromkeys(("max_length", "max_len"), "did you mean --max_seq_length?"),
    **dict.fromkeys(("max_samples", "limit"), "did you mean --max_eval_samples or --max_zero_shot_samples?"),
    **dict.fromkeys(
        ("task_name", "tasks", "validation_file"), "the sets are MNLI's; --zero_shot takes texts of yours"
    ),
    **dict.fromkeys(("num_threads", "cpu_threads"), "did you mean --threads?"),
    **dict.fromkeys(("template", "hypothesis"), "did you mean --hypothesis_template?"),
}


def truth(text: str) -> bool:
    if text.lower() not in ("true", "false"):
        raise argparse.ArgumentTypeError(f"must be true or false, not '{text}'")
    return text.lower() == "true"


def read_arguments(argv: list[str]) -> argparse.Namespace:
    """Raises InputError, of one line, for whatever cannot be understood."""
    parser = OneLineParser("compare_models.py", __doc__, MEANT)
    add = parser.add_argument
    add("models", nargs="+", type=path_or_id, metavar="MODEL", help="folders or Hub ids; the first is the teacher")
    add("--output_dir", type=file_path, required=True, metavar="DIR", help="where the sheet goes")
    add("--data_dir", type=path_or_id, metavar="DIR", help="MNLI's TSV files (default: nyu-mll/glue on the Hub)")
    add("--max_eval_samples", type=positive, metavar="N", help="first rows of each set only: a quick look")
    add("--max_seq_length", type=positive, default=128, metavar="N", help="tokens of an MNLI pair (default: 128)")
    add("--skip_bad_rows", nargs="?", const=True, default=False, type=truth, metavar="true|false", help="drop them")
    add("--ignore_label", metavar="LABEL", help="leave out the rows with this mark for no label: -")
    add("--zero_shot", type=file_path, metavar="FILE", help="JSON lines (or CSV, TSV) with the columns text and label")
    add("--hypothesis_template", default=argparse.SUPPRESS, metavar="TEXT", help="default: 'This example is {}.'")
    add("--max_zero_shot_samples", type=positive, metavar="N", help="first texts of that file only")
    add("--devices", nargs="+", choices=("cpu", "cuda"), help="where speed is measured (default: all there are)")
    add("--bf16", action="store_true", help="compute in bfloat16 (autocast) instead of float32")
    add("--repetitions", type=positive, default=5, metavar="N", help="turns of each model's speed (default: 5)")
    add("--threads", type=positive, metavar="N", help="CPU threads (default: torch's)")
    add("--no_speed", action="store_true", help="accuracy only")
    add("--backends", action="store_true", help="also measure bfloat16 and ONNX Runtime, where they are there")
    add("--update_model_dirs", action="store_true", help="a tradeoffs.json, and the card, in each model's folder")
    return parser.parse_args(argv)


def main() -> None:
    options = vars(read_arguments(sys.argv[1:]))
    # After the arguments: torch takes seconds to import.
    from distilbart_mnli.compare.compare import CompareOptions, compare_models

    compare_models(CompareOptions(**options))


if __name__ == "__main__":
    sys.exit(run_command(main))
