"""The quickstart's data is NLI: labels follow from both texts, no pair is seen twice, and genres are kept apart."""

import pytest
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression

from distilbart_mnli.data.splits import get_task, load_evaluation, load_train
from distilbart_mnli.options.read import parse_arguments
from examples.quickstart.make_data import SIZES, write_data


@pytest.fixture(scope="module")
def splits(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    write_data(folder, SIZES)
    flags = ["--task_name", "mnli", "--data_dir", str(folder), "--output_dir", "x", "--model_name_or_path", "x"]
    args = parse_arguments([*flags, "--do_train", "--do_eval"])
    task = get_task(args)
    return [load_train(args, task), *load_evaluation(args, task)]


def test_no_pair_of_texts_is_in_two_splits_or_twice_in_one(splits):
    pairs = [pair for split in splits for pair in zip(split.sentence1, split.sentence2, strict=True)]
    assert len(set(pairs)) == len(pairs) == sum(SIZES.values())


def test_the_labels_are_balanced(splits):
    for split in splits:
        assert sorted((split.labels == label).mean() for label in range(3)) == pytest.approx([1 / 3] * 3, abs=0.01)


# What a word of a premise says, worked out by hand: instance -> fact and value.
INSTANCES = {
    **dict.fromkeys(("violins", "guitars"), ("topic", "music")),
    **dict.fromkeys(("soup", "pizza"), ("topic", "cooking")),
    **dict.fromkeys(("maps", "planes"), ("topic", "travel")),
    **dict.fromkeys(("home", "work"), ("place", "indoors")),
    **dict.fromkeys(("sea", "camp"), ("place", "outdoors")),
    **dict.fromkeys(("dawn", "breakfast"), ("time", "early")),
    **dict.fromkeys(("midnight", "dinner"), ("time", "late")),
}


def test_every_label_follows_from_both_texts(splits):
    facts = {value: fact for fact, value in INSTANCES.values()}
    for split in splits:
        for premise, hypothesis, label in zip(split.sentence1, split.sentence2, split.labels, strict=True):
            said = dict(INSTANCES[word] for word in premise.split() if word in INSTANCES)
            claim = hypothesis.split()[-1]
            true = said.get(facts[claim]) == claim and "not" not in hypothesis.split()
            follows = "neutral" if facts[claim] not in said else "entailment" if true else "contradiction"
            assert ("entailment", "neutral", "contradiction")[label] == follows, (premise, hypothesis)


def test_a_bag_of_words_of_the_hypothesis_alone_stays_below_60_percent(splits):
    train, *evaluation = splits
    words = CountVectorizer(token_pattern=r"\w+")
    model = LogisticRegression(max_iter=1000).fit(words.fit_transform(train.sentence2), train.labels)
    for split in evaluation:
        assert model.score(words.transform(split.sentence2), split.labels) < 0.6


def test_the_third_genre_is_in_the_mismatched_file_only(tmp_path):
    write_data(tmp_path, SIZES)
    genres = {
        name: {line.split("\t")[3] for line in (tmp_path / f"{name}.tsv").read_text().splitlines()[1:]}
        for name in ("train", "dev_matched", "dev_mismatched")
    }
    assert genres["train"] == genres["dev_matched"]
    assert len(genres["train"]) == 2
    assert len(genres["dev_mismatched"]) == 1
    assert not genres["dev_mismatched"] & genres["train"]


def test_a_seed_gives_the_same_files_and_another_one_others(tmp_path):
    small = {"train": 60, "dev_matched": 30, "dev_mismatched": 30}
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        write_data(tmp_path / name, small, seed)
    texts = [(tmp_path / name / "train.tsv").read_text() for name in "abc"]
    assert texts[0] == texts[1] != texts[2]
