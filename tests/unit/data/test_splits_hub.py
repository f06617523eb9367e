"""The real datasets client reads nyu-mll/glue's columns into the splits that the TSV files give."""

import numpy as np
import pytest

from distilbart_mnli.data.splits import get_task, load_evaluation, load_test, load_train
from distilbart_mnli.data.tasks import TASKS
from distilbart_mnli.errors import HubError, InputError
from tests.support.glue_files import COLUMNS_ON_THE_HUB, ONE_SET_EACH, glue_args, write_hub

MNLI = TASKS["mnli"]


@pytest.mark.parametrize("name", ONE_SET_EACH)
def test_the_hub_s_columns_give_the_same_splits(local_hub, tmp_path, name):
    write_hub(local_hub, name)
    args = glue_args(name, cache_dir=str(tmp_path / "cache"), max_eval_samples=3)
    task = get_task(args)
    train, (evaluation,), (test,) = load_train(args, task), load_evaluation(args, task), load_test(args, task)
    columns = COLUMNS_ON_THE_HUB[name]
    assert train.sentence1[2] == f"{columns[0]} 2 of\u2028train"
    assert (train.sentence2[2] if columns[1:] else train.sentence2) == (
        f"{columns[1]} 2 of\u2028train" if columns[1:] else None
    )
    np.testing.assert_array_equal(train.labels, np.arange(5) % (len(task.label_names) or 5))
    assert len(evaluation) == 3
    assert test.labels is None
    assert test.submission == task.folder


def test_mnli_from_the_hub_has_both_evaluation_sets_and_the_diagnostic_set(local_hub, tmp_path):
    write_hub(local_hub, "mnli", "ax")
    args = glue_args("mnli", cache_dir=str(tmp_path / "cache"))
    splits = load_evaluation(args, MNLI) + load_test(args, MNLI)
    assert [split.name for split in splits] == ["mnli", "mnli-mm", "mnli", "mnli-mm", "ax"]
    of = [split.sentence1[0].split("\u2028")[1] for split in splits]
    assert of == ["validation_matched", "validation_mismatched", "test_matched", "test_mismatched", "test"]
    np.testing.assert_array_equal(splits[0].labels, [0, 1, 2, 0, 1])


def test_a_mirror_with_another_label_order_is_read_by_name(local_hub, tmp_path):
    write_hub(local_hub, "rte", label_names=("not_entailment", "entailment"))
    args = glue_args("rte", cache_dir=str(tmp_path / "cache"))
    np.testing.assert_array_equal(load_train(args, TASKS["rte"]).labels, [1, 0, 1, 0, 1])


def test_without_network_the_error_names_data_dir(tmp_path, monkeypatch):
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", True)
    args = glue_args("mnli", cache_dir=str(tmp_path))
    with pytest.raises(HubError, match=r"nyu-mll/glue \(mnli, train\) cannot be loaded.*--data_dir") as caught:
        load_train(args, MNLI)
    assert caught.value.exit_code == 3


def test_the_hub_has_no_labels_for_the_diagnostic_set():
    with pytest.raises(InputError, match=r"no labels for ax.*diagnostic-full.tsv.*--data_dir"):
        load_evaluation(glue_args("ax"), TASKS["ax"])
