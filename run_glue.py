#!/usr/bin/env python
"""Fine-tune, evaluate and publish a BART classifier on a GLUE task.

    python run_glue.py args.json
    accelerate launch --config_file accelerate_configs/multi_gpu.yaml run_glue.py args.json --num_train_epochs 1
    python run_glue.py --model_name_or_path DIR --task_name MNLI --data_dir glue_data/MNLI --do_eval --output_dir DIR

A JSON or YAML file, flags, or both; flags win. `--help` lists them. Exit codes: 0 done, 1 the run failed, 2 bad input,
3 the Hub refused, 128 + n stopped by signal n with a checkpoint.
"""

import os
import sys

from distilbart_mnli.command_line import set_up_logging
from distilbart_mnli.errors import run_command

# Tokenisation runs on all cores in threads of its own; the library warns where a fork could meet them.
os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")


def run_stages() -> None:
    """Read the arguments, run the stages."""
    # Reading the arguments has something to say already (names of 2020, the launch); train/stages.py refines this.
    set_up_logging(os.environ.get("RANK", "0") == "0")
    from distilbart_mnli.options.read import parse_arguments

    args = parse_arguments(sys.argv[1:])
    from distilbart_mnli.train import stages

    stages.run_stages(args)


def main(*_: object) -> None:
    """The command. The TPU launcher imports this file and calls it in every process, with an argument or without."""
    code = run_command(run_stages)
    if code:
        sys.exit(code)


if __name__ == "__main__":
    main()
