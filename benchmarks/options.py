"""What the benchmarks share: their parser, what is wrong with their options before they run for an hour, their report.

    parser = make_parser("padding", __doc__)
    options = parser.parse_args(arguments)
    check_options(options)
    ...
    write_report(options, result)

    if __name__ == "__main__":
        sys.exit(run_command(main))        # one line and exit code 2 for an InputError

The references (references.py, reference_run.py) import nothing of this project and read no options of a user's.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import torch
import transformers

from distilbart_mnli.errors import InputError


def make_parser(name: str, description: str | None) -> argparse.ArgumentParser:
    """With `--output`, which every benchmark has."""
    parser = argparse.ArgumentParser(
        prog=f"python -m benchmarks.{name}", description=description, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--output", type=Path, help="JSON file")
    return parser


def add_training_options(parser: argparse.ArgumentParser, sizes: list[str]) -> None:
    """What the benchmarks of training share: students, machine, batch, lengths."""
    parser.add_argument("--layers", type=int, nargs="+", default=[1, 3, 6, 9], help="decoder layers of the students")
    parser.add_argument("--size", choices=sizes, default="cpu")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--batch_size", type=int, default=32)
    parser.add_argument("--gradient_accumulation_steps", type=int, default=4)
    parser.add_argument("--lengths_from", nargs=2, metavar=("TSV", "TOKENIZER"))


def check_options(options: argparse.Namespace) -> None:
    """Raises InputError for an --output that cannot be written and a --device that is not there."""
    output = options.output
    if output is not None and (output.is_dir() or not output.absolute().parent.is_dir()):
        raise InputError(f"--output {output}: expected a file in a folder that is there")
    if getattr(options, "device", "cpu") == "cuda" and not torch.cuda.is_available():
        raise InputError("--device cuda: torch sees no CUDA GPU; leave it out to measure on the CPU")


def report_head(options: argparse.Namespace, hardware: str) -> dict[str, Any]:
    """What a report of training begins with."""
    return {
        "options": {key: str(value) for key, value in vars(options).items() if value is not None},
        "hardware": hardware,
        "versions": {"torch": torch.__version__, "transformers": transformers.__version__},
    }


def quiet_transformers() -> None:
    """No warnings and no progress bars of transformers."""
    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()


def write_report(options: argparse.Namespace, report: dict[str, Any]) -> None:
    """Into the file of --output, where it is given."""
    if options.output:
        options.output.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
