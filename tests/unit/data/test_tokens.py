"""A set is tokenised once, as the tokenizer called by hand does it, and again whenever anything decides otherwise."""

import random
from pathlib import Path

import numpy as np
import pytest

from distilbart_mnli.data.splits import Split
from distilbart_mnli.data.tokens import check_tokenizer, digest_of, tokenize
from distilbart_mnli.errors import InputError
from tests.support.tiny import tiny_config, tiny_tokenizer


def texts() -> Split:
    first = ["the cat sees a dog", 'he said "no" and </s> left', "", "ünïcödé 漢字 \u2028 x", "a " * 300, "<pad> old"]
    second = ["a dog not", "a <pad> b", "the", "x", "b " * 300, "</s></s>"]
    return Split("train", first, second, np.array([0, 1, 2, 0, 1, 2]), "memory")


def test_rows_are_tokenised_as_by_hand(tmp_path, monkeypatch):
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path)
    split, tokenizer = texts(), tiny_tokenizer()
    found = tokenize(split, tokenizer, 40, np.array([2, 1, 0]))
    for row, pair in enumerate(zip(split.sentence1, split.sentence2, strict=True)):
        by_hand = tokenizer(*pair, truncation=True, max_length=40)["input_ids"]
        assert found.ids[found.offsets[row] : found.offsets[row + 1]].tolist() == by_hand
    assert found.labels.tolist() == [2, 1, 0, 2, 1, 0]
    assert found.lengths.max() == 40 and len(found) == 6
    single = tokenize(Split("cola", split.sentence1, None, None, "memory"), tokenizer, 40)
    assert single.ids[: single.offsets[1]].tolist() == tokenizer(split.sentence1[0])["input_ids"]
    assert single.labels is None


def test_a_set_is_tokenised_once_and_again_when_anything_that_decides_its_ids_changes(tmp_path, monkeypatch):
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path)

    def files() -> int:
        return len(list(tmp_path.rglob("tokens-*.arrow")))

    split, tokenizer = texts(), tiny_tokenizer()
    first = tokenize(split, tokenizer, 40)
    assert files() == 1
    # Used in between (truncation and padding are state of the tokenizer), loaded anew, other labels: the same file.
    tokenizer(["a", "a b"], padding="max_length", truncation=True, max_length=17)
    again = tokenize(Split("other name", split.sentence1, split.sentence2, None, ""), tiny_tokenizer(), 40)
    assert files() == 1 and again.digest == first.digest
    assert np.array_equal(again.ids, first.ids)
    changed = [
        (split, tokenizer, 41),
        (Split("train", [*split.sentence1[:-1], "<pad> new"], split.sentence2, None, ""), tokenizer, 40),
        (Split("train", split.sentence2, split.sentence1, None, ""), tokenizer, 40),
    ]
    other = tiny_tokenizer()
    other.add_tokens(["garden"])
    changed.append((split, other, 40))
    for number, (other_split, other_tokenizer, length) in enumerate(changed, start=2):
        tokenize(other_split, other_tokenizer, length)
        assert files() == number


def test_texts_cut_at_another_place_are_another_set(tmp_path, monkeypatch):
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path)
    one = tokenize(Split("a", ["a\0b", "c"], None, None, ""), tiny_tokenizer(), 40)
    other = tokenize(Split("a", ["a", "b\0c"], None, None, ""), tiny_tokenizer(), 40)
    assert one.digest != other.digest
    assert digest_of("ab", "c") != digest_of("a", "bc")


def replaced_by_a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


DAMAGES = {
    "cut short": lambda file: file.write_bytes(file.read_bytes()[:-9]),
    "empty": lambda file: file.write_bytes(b""),
    "longer": lambda file: file.write_bytes(file.read_bytes() + b"\0"),
    "not text": lambda file: file.write_bytes(b"\xff\xfe" * 40),
    "a folder": replaced_by_a_folder,
}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("suffix", ["arrow", "sha256"])
def test_tokens_that_are_damaged_on_disk_are_made_again(tmp_path, monkeypatch, suffix, damage, caplog):
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path)
    first = tokenize(texts(), tiny_tokenizer(), 40)
    ids = first.ids.copy()
    (file,) = tmp_path.rglob(f"tokens-*.{suffix}")
    DAMAGES[damage](file)
    again = tokenize(texts(), tiny_tokenizer(), 40)
    assert again.digest == first.digest and np.array_equal(again.ids, ids)
    assert len(caplog.records) == (damage != "a folder")
    caplog.clear()
    tokenize(texts(), tiny_tokenizer(), 40)
    assert not caplog.records


def test_no_flipped_bit_changes_the_tokens(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path)
    first = tokenize(texts(), tiny_tokenizer(), 40)
    ids, draw, made = first.ids.copy(), random.Random(0), tiny_tokenizer()
    for trial in range(60):
        file = draw.choice(sorted(tmp_path.rglob("tokens-*")))
        data = bytearray(file.read_bytes())
        data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
        file.write_bytes(data)
        caplog.clear()
        again = tokenize(texts(), made, 40)
        assert again.digest == first.digest and np.array_equal(again.ids, ids), (trial, file)
        # A letter of the checksum in capitals, or another end of its line, is the only flip that means nothing.
        assert len(caplog.records) == 1 or file.suffix == ".sha256", (trial, file)


def test_tokens_that_an_earlier_release_kept_without_a_checksum_are_made_once_again(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path)
    first = tokenize(texts(), tiny_tokenizer(), 40)
    (checksum,) = tmp_path.rglob("tokens-*.sha256")
    checksum.unlink()
    assert tokenize(texts(), tiny_tokenizer(), 40).digest == first.digest
    assert checksum.exists() and not caplog.records


def test_a_cache_folder_that_cannot_be_written_is_one_line(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "file")
    with pytest.raises(InputError, match=r"tokens of train could not be kept in .*HF_HOME") as caught:
        tokenize(texts(), tiny_tokenizer(), 40)
    assert "space" not in str(caught.value)  # nothing that one frees would help


@pytest.mark.parametrize(
    ("config", "max_length", "message"),
    [
        ({"vocab_size": 300}, 64, "ids up to 338, the model 300 embeddings"),
        ({"eos_token_id": 3}, 64, "reads its answer at eos_token_id 3"),
        ({}, 129, "more than the model's 128 positions"),
        ({}, 5, "leaves no room"),
    ],
)
def test_a_tokenizer_that_cannot_feed_the_model_is_refused(config, max_length, message):
    with pytest.raises(InputError, match=message):
        check_tokenizer(tiny_tokenizer(), tiny_config(**config), max_length, "NAME")


def test_the_model_s_own_tokenizer_is_accepted():
    check_tokenizer(tiny_tokenizer(), tiny_config(), 128, "NAME")
