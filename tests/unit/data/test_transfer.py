"""Rows without labels join a training set: which texts, in which order, and what is refused."""

import json
from pathlib import Path

import numpy as np
import pytest
from transformers.pipelines.zero_shot_classification import ZeroShotClassificationArgumentHandler

from distilbart_mnli.data.splits import NO_LABEL, Split, get_task, load_train
from distilbart_mnli.data.tokens import tokenize
from distilbart_mnli.data.transfer import with_transfer_rows
from distilbart_mnli.errors import InputError
from distilbart_mnli.options.fields import Arguments
from tests.support.glue_files import glue_args, write_task
from tests.support.own_files import own_files
from tests.support.tiny import tiny_tokenizer

TEXTS = ["one, text", "another"]
TOPICS = ["cats", "dogs, big and small"]


def written(path: Path, content: str | list[dict]) -> str:
    text = content if isinstance(content, str) else "".join(json.dumps(row) + "\n" for row in content)
    path.write_text(text, encoding="utf-8")
    return str(path)


def joined(args: Arguments) -> tuple[Split, Split]:
    """The training set as it is, and with its transfer rows."""
    task = get_task(args)
    train = load_train(args, task)
    return train, with_transfer_rows(args, task, train)


def refusal(args: Arguments) -> str:
    with pytest.raises(InputError) as caught:
        joined(args)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_pairs_stand_after_the_rows_and_no_label_of_theirs_is_read(tmp_path):
    rows = [{"premise": "p1", "hypothesis": "h1", "label": ["no", "label"]}, {"hypothesis": "h2", "premise": "p2"}]
    pairs, texts = written(tmp_path / "pairs.jsonl", rows), written(tmp_path / "texts.csv", "text,label\na,\nb,\n")
    more = {"transfer_file": pairs, "transfer_texts": texts, "candidate_labels": ["x", "y"], "max_train_samples": 5}
    own, train = joined(glue_args("MNLI", write_task(tmp_path / "MNLI", "mnli"), **more))
    assert len(own) == 5
    assert train.sentence1 == [*own.sentence1, "p1", "p2", "a", "a", "b", "b"]
    hypotheses = [f"This example is {label}." for label in "xyxy"]
    assert train.sentence2 == [*own.sentence2, "h1", "h2", *hypotheses]
    np.testing.assert_array_equal(train.labels, [*own.labels, *[-100] * 6])
    tokens = tokenize(train, tiny_tokenizer(), 64, np.array([2, 1, 0]))
    np.testing.assert_array_equal(tokens.labels, [*np.array([2, 1, 0])[own.labels], *[-100] * 6])
    assert tokens.unlabelled == 6


def test_texts_make_the_pairs_of_the_zero_shot_pipeline(tmp_path):
    texts = written(tmp_path / "texts.jsonl", [{"text": text} for text in TEXTS])
    template = "Is it {}?"
    more = {"transfer_texts": texts, "candidate_labels": TOPICS, "hypothesis_template": template}
    own, train = joined(glue_args("RTE", write_task(tmp_path / "RTE", "rte"), **more))
    pairs, _ = ZeroShotClassificationArgumentHandler()(TEXTS, TOPICS, template)
    found = zip(train.sentence1[len(own) :], train.sentence2[len(own) :], strict=True)
    assert [list(pair) for pair in found] == pairs


@pytest.mark.parametrize(
    ("task", "header", "expected"),
    [
        ("qnli", "question,sentence", ("a", "b")),  # its second text is called as own data's first may be
        ("qnli", "premise,sentence", ("a", "b")),
        ("sst2", "sentence,sentence2", ("a", None)),
        ("stsb", "sentence2,sentence1", ("b", "a")),
    ],
)
def test_columns_have_the_tasks_names_or_those_of_own_data(tmp_path, task, header, expected):
    file = written(tmp_path / "more.csv", f"{header}\na,b\n")
    own, train = joined(glue_args(task, write_task(tmp_path / "data", task), transfer_file=file))
    assert (train.sentence1[-1], train.sentence2 and train.sentence2[-1]) == expected
    assert (len(train), train.labels[-1], train.labels.dtype) == (len(own) + 1, NO_LABEL, own.labels.dtype)


def test_own_data_s_keys_name_the_columns(tmp_path):
    file = written(tmp_path / "more.tsv", "text\tq\tr\nno\ta\tb\n")
    keys = {"sentence1_key": "q", "sentence2_key": "r"}
    _, train = joined(own_files(tmp_path, train="q,r,label\n1,2,x\n3,4,y\n", transfer_file=file, **keys))
    assert (train.sentence1, train.sentence2) == (["1", "3", "a"], ["2", "4", "b"])


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("none.csv", None, "none.csv"),
        ("a.csv", "", "a.csv: empty"),
        ("a.csv", "premise,hypothesis\n", "no rows"),
        ("a.csv", "premise,answer\na,b\n", "premise, answer"),
        ("a.csv", "premise,hypothesis\na,b\n , c\n", "line 3: no text in premise"),
        ("a.jsonl", [{"premise": "a", "hypothesis": ""}], "line 1: no text in hypothesis"),
        ("a.xlsx", "x", "unknown kind"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused(tmp_path, name, content, told):
    file = str(tmp_path / name) if content is None else written(tmp_path / name, content)
    assert told in refusal(glue_args("MNLI", write_task(tmp_path / "MNLI", "mnli"), transfer_file=file))


def test_empty_texts_are_left_out_with_skip_bad_rows(tmp_path):
    file = written(tmp_path / "a.jsonl", [{"text": ""}, {"text": "a"}, {"text": None}])
    more = {"transfer_texts": file, "candidate_labels": ["x"], "skip_bad_rows": True}
    own, train = joined(glue_args("MNLI", write_task(tmp_path / "MNLI", "mnli"), **more))
    assert train.sentence1[len(own) :] == ["a"]


def test_a_task_of_single_texts_has_no_pairs_of_texts_and_labels(tmp_path):
    file = written(tmp_path / "a.csv", "text\na\n")
    more = {"transfer_texts": file, "candidate_labels": ["x"]}
    assert "transfer_texts" in refusal(glue_args("SST-2", write_task(tmp_path / "SST-2", "sst2"), **more))
