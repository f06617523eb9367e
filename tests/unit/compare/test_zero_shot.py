"""Zero-shot scores are those of transformers' pipeline, label for label; a file or a model that cannot give them is
refused in one line."""

import json
from pathlib import Path

import numpy as np
import pytest
from transformers import AutoTokenizer, pipeline

from distilbart_mnli.compare.zero_shot import ZeroShotData, read_zero_shot, zero_shot_figures
from distilbart_mnli.errors import InputError
from distilbart_mnli.zero_shot.pairs import label_scores
from tests.support.tiny import GLUE_LABELS, TEACHER_LABELS, sentence, tiny_bart, tiny_config
from tests.support.zero_shot import scores_of

TOPICS = ["cat", "old house", "garden"]
TEMPLATE = "the bird sees {}."


def write_topics(path: Path, rows: int = 24, longest: int = 30) -> Path:
    rng = np.random.default_rng(3)
    lines = [{"text": sentence(rng, 1, longest), "label": TOPICS[number % 3]} for number in range(rows)]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return path


# Entailment is the last label of the teacher's order, the first of GLUE's. The text of 200 words is cut short.
@pytest.mark.parametrize(("labels", "longest"), [(TEACHER_LABELS, 30), (GLUE_LABELS, 30), (TEACHER_LABELS, 200)])
def test_scores_are_the_pipelines(tmp_path, labels, longest):
    tiny_bart(tmp_path / "model", labels=labels, max_position_embeddings=64)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "model", model_max_length=64)
    tokenizer.save_pretrained(tmp_path / "model")
    data = read_zero_shot(write_topics(tmp_path / "topics.jsonl", longest=longest), TEMPLATE)
    ours = scores_of(tmp_path / "model", data)
    classify = pipeline("zero-shot-classification", model=str(tmp_path / "model"), device="cpu")
    found = classify(data.texts, data.candidate_labels, hypothesis_template=TEMPLATE)
    assert len({answer["labels"][0] for answer in found}) > 1  # the model does not say the same of every text
    for row, answer in zip(ours, found, strict=True):
        theirs = dict(zip(answer["labels"], answer["scores"], strict=True))
        assert [data.candidate_labels[i] for i in np.argsort(-row)] == answer["labels"]
        np.testing.assert_allclose(row, [theirs[label] for label in data.candidate_labels], atol=1e-4)


def test_accuracy_and_macro_f1_by_hand():
    data = ZeroShotData("x", list("abcd"), np.array([0, 0, 1, 2]), TOPICS, TEMPLATE)
    scores = np.array([[0.8, 0.1, 0.1], [0.2, 0.7, 0.1], [0.3, 0.4, 0.3], [0.1, 0.2, 0.7]])  # 0, 1, 1, 2
    # F1: label 0 has precision 1, recall 1/2; label 1 precision 1/2, recall 1; label 2 both 1.
    expected = (2 / 3 + 2 / 3 + 1) / 3
    found = zero_shot_figures(scores, data)
    assert (found["accuracy"], found["macro_f1"]) == (0.75, pytest.approx(expected))


def test_candidate_labels_are_those_of_the_whole_file(tmp_path):
    data = read_zero_shot(write_topics(tmp_path / "topics.jsonl"), TEMPLATE, limit=2)
    assert (len(data), data.candidate_labels) == (2, sorted(TOPICS))
    assert [data.candidate_labels[i] for i in data.labels] == TOPICS[:2]


@pytest.mark.parametrize("template", ["no place for it", "{} and {}", "{name}", "{", "{0} {1}"])
def test_a_template_without_one_place_for_the_label_is_refused(tmp_path, template):
    with pytest.raises(InputError, match="hypothesis_template"):
        read_zero_shot(write_topics(tmp_path / "topics.jsonl"), template)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"text": "a", "label": "b"}\n{"text": "c", "label": "b"}\n', "label"),
        ('{"text": "a", "topic": "b"}\n', "label"),
        ("not json\n", "line 1"),
    ],
)
def test_a_file_that_has_no_topics_is_refused(tmp_path, content, message):
    path = tmp_path / "topics.jsonl"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(InputError, match=message) as caught:
        read_zero_shot(path)
    assert str(path) in str(caught.value)


def test_a_model_without_entailment_is_refused():
    config = tiny_config(labels=("no", "yes", "maybe"), name_or_path="the student")
    with pytest.raises(InputError, match="the student"):
        label_scores(np.zeros((3, 3), np.float32), 3, config)
