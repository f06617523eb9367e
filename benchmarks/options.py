"""What is wrong with a benchmark's options, said before it runs for an hour.

    if __name__ == "__main__":
        sys.exit(run_command(main))        # one line and exit code 2 for an InputError

The references (references.py, reference_run.py) import nothing of this project and read no options of a user's.
"""

import argparse

import torch

from distilbart_mnli.errors import InputError


def check_options(options: argparse.Namespace) -> None:
    """Raises InputError for an --output that cannot be written and a --device that is not there."""
    output = options.output
    if output is not None and (output.is_dir() or not output.absolute().parent.is_dir()):
        raise InputError(f"--output {output}: expected a file in a folder that is there")
    if getattr(options, "device", "cpu") == "cuda" and not torch.cuda.is_available():
        raise InputError("--device cuda: torch sees no CUDA GPU; leave it out to measure on the CPU")
