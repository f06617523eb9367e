"""What decides a tokenizer's ids outside of tokenizer.json is a part of its identity, in every cache.

huggingface/datasets#3638: truncation_side lies beside the fast tokenizer's state, where a hash of that state does not
see it. OptimalScale/LMFlow#394: models with different tokenizers on one data set reuse the same cache.
"""

import json
import shutil
from hashlib import sha256

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score
from transformers import AutoTokenizer, BartForSequenceClassification

from distilbart_mnli.compare.compare import CompareOptions, compare_models
from distilbart_mnli.compare.evaluate import groups_of, load_candidates
from distilbart_mnli.data.splits import Split, load_evaluation
from distilbart_mnli.data.tasks import TASKS
from distilbart_mnli.data.tokens import check_tokenizer, tokenize, tokenizer_digest
from distilbart_mnli.errors import InputError
from distilbart_mnli.options.fields import Arguments
from tests.support.files import edit_json
from tests.support.in_process import train_here
from tests.support.tiny import WORDS, tiny_bart, tiny_config, tiny_mnli, tiny_tokenizer
from tests.support.training_runs import Workshop

LENGTH = 32
LONG = " ".join(np.random.default_rng(0).choice(WORDS, 90))
TEXTS = [(LONG, "not a dog"), ("The Cat <mask> sees", " a <pad> dog"), ("", "in the</s> house"), ("a", LONG)]
SETTINGS = {
    "truncation_side": ["left", "right"],
    "padding_side": ["left", "right"],
    "model_max_length": [16, 128, 10**30],
    "split_special_tokens": [True, False],
    "add_prefix_space": [True, False],
    "do_lower_case": [True, False],
    "add_bos_token": [True, False],
    "cls_token": ["<s>", "a", "<new>"],
    "mask_token": ["<mask>", "dog"],
    "pad_token": ["<pad>", "cat"],
    "extra_special_tokens": [["sees"], ["<extra>"], []],
    "added_tokens_decoder": [{"400": {"content": "house", "special": False}}],
    "tokenizer_class": ["TokenizersBackend", "BartTokenizer", "RobertaTokenizer", "BertTokenizer"],
    "clean_up_tokenization_spaces": [True, False],
    "chat_template": ["{{ messages }}"],
}


IDS_OF: dict[str, list] = {}  # digest of a tokenizer -> its ids


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two models of the same weights, whose tokenizers differ in truncation_side alone, and long premises."""
    folder = tmp_path_factory.mktemp("settings")
    tiny_bart(folder / "right")
    shutil.copytree(folder / "right", folder / "left")
    edit_json(folder / "left" / "tokenizer_config.json", truncation_side="left")
    tiny_mnli(folder / "data", matched=40)
    for name in ("dev_matched.tsv", "dev_mismatched.tsv"):
        lines = [line.split("\t") for line in (folder / "data" / name).read_text().splitlines()]
        for row, fields in enumerate(lines[1:]):
            fields[8] = " ".join(np.random.default_rng(row).choice(WORDS, 90))
        (folder / "data" / name).write_text("\n".join("\t".join(fields) for fields in lines) + "\n")
    return folder


def settings_of_a_tokenizer():
    return st.fixed_dictionaries({}, optional={name: st.sampled_from(values) for name, values in SETTINGS.items()})


@settings(
    max_examples=40,
    deadline=None,
    database=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@example(chosen={"truncation_side": "left"})
@example(chosen={"split_special_tokens": True})
@example(chosen={})
@given(chosen=settings_of_a_tokenizer())
def test_tokenizers_that_cut_otherwise_share_neither_digest_nor_tokens(chosen, tmp_path, folder, monkeypatch):
    # One cache for all examples, so that whoever shares what is no theirs is found out.
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", folder / "kept-tokens")
    shutil.copytree(folder / "right", tmp_path / "model", dirs_exist_ok=True)
    edit_json(tmp_path / "model" / "tokenizer_config.json", **chosen)
    tokenizer, stock = (AutoTokenizer.from_pretrained(tmp_path / "model") for _ in range(2))
    shutil.rmtree(tmp_path / "model")
    try:
        by_hand = [stock(*pair, truncation=True, max_length=LENGTH)["input_ids"] for pair in TEXTS[:2] + TEXTS[3:]]
        by_hand.insert(2, stock([""], [TEXTS[2][1]], truncation=True, max_length=LENGTH)["input_ids"][0])
    except (ValueError, TypeError, OverflowError):
        return  # stock cannot use it
    digest = tokenizer_digest(tokenizer)
    found = tokenize(Split("train", *map(list, zip(*TEXTS, strict=True)), None, "memory"), tokenizer, LENGTH)
    assert [found.ids[a:b].tolist() for a, b in zip(found.offsets, found.offsets[1:], strict=False)] == by_hand
    assert IDS_OF.setdefault(digest, by_hand) == by_hand
    assert tokenizer_digest(tokenizer) == digest  # using it changes nothing


def test_an_ordinary_tokenizer_has_the_digest_of_its_state_alone():
    tokenizer = tiny_tokenizer()
    state = tokenizer.backend_tokenizer.to_str().encode()
    assert tokenizer_digest(tokenizer) == sha256(len(state).to_bytes(8, "little") + state).hexdigest()


def test_models_side_by_side_are_measured_as_alone_and_as_by_stock(folder, tmp_path, monkeypatch):
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "datasets")

    def figures(*names: str) -> list[dict]:
        options = CompareOptions(
            models=[str(folder / name) for name in names],
            output_dir=tmp_path / "-".join(names),
            data_dir=str(folder / "data"),
            max_seq_length=LENGTH,
            devices=["cpu"],
            no_speed=True,
        )
        return compare_models(options).rows

    together, by_stock = figures("right", "left"), {}
    split = load_evaluation(Arguments(task_name="mnli", data_dir=str(folder / "data")), TASKS["mnli"])[0]
    for row in together:
        (alone,) = figures(row["model"])
        model = BartForSequenceClassification.from_pretrained(folder / row["model"])
        tokenizer = AutoTokenizer.from_pretrained(folder / row["model"])
        predicted = []
        for pair in zip(split.sentence1, split.sentence2, strict=True):
            inputs = tokenizer(*pair, truncation=True, max_length=LENGTH, return_tensors="pt")
            with torch.no_grad():
                logits = model(inputs["input_ids"], attention_mask=inputs["attention_mask"]).logits
            predicted.append(TASKS["mnli"].label_names.index(model.config.id2label[int(logits.argmax())]))
        assert row["accuracy_matched"] == alone["accuracy_matched"] == accuracy_score(split.labels, predicted)
        by_stock[row["model"]] = predicted
    assert by_stock["right"] != by_stock["left"]
    assert together[1]["agreement_with_teacher"] == accuracy_score(by_stock["right"], by_stock["left"])


@pytest.mark.parametrize(
    ("setting", "groups"),
    [({"truncation_side": "left"}, 2), ({"model_max_length": 16}, 2), ({"padding_side": "left"}, 1)],
)
def test_models_keep_company_only_where_their_pairs_are_cut_alike(folder, tmp_path, setting, groups):
    shutil.copytree(folder / "right", tmp_path / "other")
    edit_json(tmp_path / "other" / "tokenizer_config.json", **setting)
    paths = [str(folder / "right"), str(tmp_path / "other")]
    assert len(groups_of(load_candidates(paths, Arguments(task_name="mnli"), TASKS["mnli"]))) == groups


def test_resume_says_which_setting_changed(tmp_path):
    shop = Workshop(tmp_path)
    options = shop.options("out", max_steps=2, eval_strategy="no", do_eval=False)
    assert train_here(options) == (0, "")
    edit_json(tmp_path / "student" / "tokenizer_config.json", truncation_side="left")
    code, error = train_here({**options, "max_steps": 2, "resume_from_checkpoint": True})
    assert code == 2 and '"truncation_side": "left"' in error


def test_a_tokenizer_that_draws_its_tokens_is_refused(tmp_path):
    tiny_tokenizer(tmp_path)
    state = json.loads((tmp_path / "tokenizer.json").read_text())
    state["model"]["dropout"] = 0.1
    (tmp_path / "tokenizer.json").write_text(json.dumps(state))
    with pytest.raises(InputError, match="dropout"):
        check_tokenizer(AutoTokenizer.from_pretrained(tmp_path), tiny_config(), 64, "NAME")
