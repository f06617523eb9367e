"""The least that run_glue.py must be told, and what it answers."""

import json

import pytest

from distilbart_mnli.errors import InputError
from distilbart_mnli.options.read import parse_arguments

LEAST = {"model_name_or_path": "m", "task_name": "MNLI", "do_eval": True, "output_dir": "out"}
LEAST_FLAGS = ["--model_name_or_path", "m", "--task_name", "MNLI", "--do_eval", "--output_dir", "out"]


def written(folder, values, name="args.json") -> str:
    path = folder / name
    path.write_text(values if isinstance(values, str) else json.dumps(values), encoding="utf-8")
    return str(path)


def refusal(argv) -> str:
    with pytest.raises(InputError) as caught:
        parse_arguments(argv)
    assert "\n" not in str(caught.value)
    return str(caught.value)
