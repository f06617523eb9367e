"""One's own files and what becomes of them: the splits, or the one line of a refusal.

args = own_files(tmp_path, train="text,label\\na,x\\nb,y\\n", suffix=".csv", skip_bad_rows=True)
train, evaluation, test = read(args)        # None for a set that has no file
message = refusal(args)
"""

from pathlib import Path

import pytest

from distilbart_mnli.data.splits import Split, get_task, load_evaluation, load_test, load_train
from distilbart_mnli.errors import InputError
from distilbart_mnli.options.fields import Arguments


def own_files(
    folder: Path, train: str = "", validation: str = "", test: str = "", suffix: str = ".csv", **options
) -> Arguments:
    """The options of a run on files with these contents; a set without content has none."""
    files = {}
    for name, content in (("train", train), ("validation", validation), ("test", test)):
        if content:
            path = folder / f"{name}{suffix}"
            path.write_bytes(content.encode())
            files[f"{name}_file"] = str(path)
    return Arguments(do_train=bool(train), **files, **options)


def read(args: Arguments) -> tuple[Split | None, Split | None, Split | None]:
    """Training, evaluation and test set, as a run reads them."""
    task = get_task(args)
    evaluation, test = load_evaluation(args, task), load_test(args, task)
    train = load_train(args, task) if args.train_file else None
    return train, evaluation[0] if evaluation else None, test[0] if test else None


def label_words(args: Arguments, split: Split) -> list[str]:
    """The name of every row's class."""
    assert split.labels is not None
    return [get_task(args).label_names[label] for label in split.labels]


def refusal(args: Arguments) -> str:
    """The one line with which the files are refused."""
    with pytest.raises(InputError) as caught:
        read(args)
    message = str(caught.value)
    assert "\n" not in message and caught.value.exit_code == 2
    return message
