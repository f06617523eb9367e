"""Label the texts of a file with labels of your own: zero-shot classification by a BART NLI model.

    python classify.py distilbart-mnli-12-3 reviews.csv --candidate_labels price quality delivery --output labels.jsonl

FILE: plain lines, .csv, .tsv, .jsonl (or .ndjson), .json; - for stdin. Scores are those of transformers' zero-shot
pipeline. An output file appears when it is whole; a run that was stopped goes on when the same command is given again.
Without --output, results go to stdout as JSON lines.

Exit codes: 0 done; 1 the run failed; 2 bad input, nothing was computed; 3 the Hub refused; 128+n stopped by signal n.
"""

import argparse
import sys

from distilbart_mnli.command_line import OneLineParser, file_path, path_or_id, positive, share
from distilbart_mnli.errors import run_command

# What people type, above all the arguments of transformers' pipeline -> what it is called here.
MEANT = {
    **dict.fromkeys(("model", "model_name_or_path", "file", "input", "sequences"), "MODEL and FILE have no name"),
    **dict.fromkeys(("labels", "classes", "candidate_label"), "did you mean --candidate_labels?"),
    **dict.fromkeys(("output_file", "output_dir", "out", "save_path"), "did you mean --output?"),
    **dict.fromkeys(("template", "hypothesis"), "did you mean --hypothesis_template?"),
    **dict.fromkeys(("text_column", "column", "text", "text_field"), "did you mean --text_key?"),
    **dict.fromkeys(("multi_class", "multilabel"), "did you mean --multi_label?"),
    **dict.fromkeys(("bf16", "fp16", "quantized", "int8"), "did you mean --dtype?"),
    **dict.fromkeys(("onnx",), "did you mean --backend onnx?"),
    **dict.fromkeys(("batch_size", "per_device_eval_batch_size"), "batches are made by the length of the texts"),
    **dict.fromkeys(("use_cpu", "no_cuda", "cpu"), "did you mean --device cpu?"),
    **dict.fromkeys(("num_threads", "cpu_threads"), "did you mean --threads?"),
    **dict.fromkeys(("resume", "resume_from_checkpoint"), "the same command goes on where it was"),
}


def read_arguments(argv: list[str]) -> argparse.Namespace:
    """Raises InputError, of one line, for whatever cannot be understood."""
    parser = OneLineParser("classify.py", __doc__, MEANT)
    add = parser.add_argument
    add("model", type=path_or_id, metavar="MODEL", help="folder or Hub id of a BART NLI classifier")
    add("file", type=path_or_id, metavar="FILE", help="the texts; - for stdin")
    add("--candidate_labels", nargs="+", metavar="LABEL", help="or one argument with commas: 'price, quality'")
    add("--labels_file", type=file_path, metavar="FILE", help="instead: one label a line")
    add("--output", type=file_path, metavar="FILE", help=".jsonl, .csv or .tsv (default: JSON lines on stdout)")
    add("--overwrite", action="store_true", help="replace the output, once the new one is whole")
    add("--multi_label", action="store_true", help="every label for itself, instead of scores with the sum 1")
    add("--hypothesis_template", default=argparse.SUPPRESS, metavar="TEXT", help="default: 'This example is {}.'")
    add("--threshold", type=share, default=0.0, metavar="SCORE", help="below it, a text is 'none of these'")
    add("--top_k", type=positive, metavar="N", help="best labels to show (default: all; in a table, one)")
    add("--format", choices=("auto", "lines", "csv", "tsv", "jsonl", "json"), default="auto", help="of FILE")
    add("--text_key", default="text", metavar="NAME", help="column or key of the text (default: text)")
    add("--skip_bad_rows", action="store_true", help="leave out rows that cannot be read, and empty texts")
    add("--backend", choices=("torch", "onnx"), default="torch", help="onnx: onnx/model.onnx beside the model")
    add("--dtype", choices=("auto", "float32", "bfloat16", "int8"), default="auto", help=DTYPE_HELP)
    add("--device", choices=("cpu", "cuda"), help="default: a GPU where there is one")
    add("--threads", type=positive, metavar="N", help="CPU threads (default: torch's)")
    return parser.parse_args(argv)


DTYPE_HELP = "auto: bfloat16 where the processor has it; int8: the quantised ONNX file"


def main() -> None:
    options = vars(read_arguments(sys.argv[1:]))
    # After the arguments: torch takes seconds to import.
    from distilbart_mnli.zero_shot.backends import BackendOptions
    from distilbart_mnli.zero_shot.classify import ClassifyOptions, classify_file
    from distilbart_mnli.zero_shot.texts import TextOptions

    texts = TextOptions(**{name: options.pop(name) for name in ("format", "text_key", "skip_bad_rows")})
    backend = BackendOptions(kind=options.pop("backend"), dtype=options.pop("dtype"), device=options.pop("device"))
    classify_file(ClassifyOptions(texts=texts, backend=backend, **options))


if __name__ == "__main__":
    sys.exit(run_command(main))
