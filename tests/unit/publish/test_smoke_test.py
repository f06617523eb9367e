"""The test before upload accepts what a run leaves, and notices each thing that would make a published model wrong."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForSequenceClassification

from distilbart_mnli.errors import RunError
from distilbart_mnli.publish import smoke_test as module
from distilbart_mnli.publish.smoke_test import Predictions, smoke_test
from tests.support.publishing import ROWS, finished_run
from tests.support.tiny import GLUE_LABELS, tiny_bart


@pytest.fixture(scope="module")
def good(tmp_path_factory) -> Path:
    return finished_run(tmp_path_factory.mktemp("run") / "student")


@pytest.fixture
def copy(good, tmp_path) -> Path:
    folder = tmp_path / "student"
    folder.mkdir()
    for path in good.iterdir():
        if path.is_file():
            (folder / path.name).write_bytes(path.read_bytes())
    return folder


def check(folder: Path, rows=ROWS, start: str | None = None, dtype: str = "float32") -> None:
    smoke_test(folder, Predictions(folder / "eval_predictions_mnli.tsv", rows, 128, dtype), start)


def edit_json(path: Path, **changes) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def edit_weights(folder: Path, change) -> None:
    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def test_a_finished_run_passes(good):
    check(good)


@pytest.mark.parametrize("labels", [GLUE_LABELS, ("not_entailment", "entailment"), ("negative", "positive")])
def test_other_label_names_and_orders_pass(tmp_path, labels):
    check(finished_run(tmp_path / "student", labels=labels))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_weights_saved_in_half_precision_pass_against_logits_of_the_full_ones(copy, dtype):
    AutoModelForSequenceClassification.from_pretrained(copy, dtype=torch.float32).to(dtype).save_pretrained(copy)
    check(copy)


def test_logits_computed_in_bfloat16_pass_only_if_the_run_says_so(copy):
    path = copy / "eval_predictions_mnli.tsv"
    head, *lines = path.read_text().splitlines()
    rounded = [
        "\t".join([*line.split("\t")[:3], *(f"{float(v) * 1.01:.9g}" for v in line.split("\t")[3:])]) for line in lines
    ]
    path.write_text("\n".join([head, *rounded]) + "\n")
    with pytest.raises(RunError, match=r"eval_predictions_mnli.tsv"):
        check(copy)
    check(copy, dtype="bfloat16")
    edit_json(copy / "trainer_state.json", run={"mixed_precision": "bf16"})
    check(copy)


def test_without_rows_the_logits_are_not_compared_and_the_log_says_so(copy, caplog):
    (copy / "eval_predictions_mnli.tsv").unlink()
    with caplog.at_level("INFO", "distilbart_mnli"):
        smoke_test(copy)
    assert "not compared" in caplog.text


def test_the_weights_of_another_model_are_noticed(copy):
    tiny_bart(copy, seed=1, decoder_layers=1)
    with pytest.raises(RunError, match=r"eval_predictions_mnli.tsv: row \d+"):
        check(copy)


def test_rows_in_another_order_are_noticed(copy):
    with pytest.raises(RunError, match=r"eval_predictions_mnli.tsv"):
        check(copy, rows=ROWS[::-1])


def test_swapped_label_names_are_noticed(copy):
    names = ["neutral", "contradiction", "entailment"]
    edit_json(copy / "config.json", id2label=dict(enumerate(names)), label2id={n: i for i, n in enumerate(names)})
    with pytest.raises(RunError, match=r"eval_predictions_mnli.tsv .*config.json"):
        check(copy)


def test_names_that_disagree_between_the_two_tables_are_noticed(copy):
    edit_json(copy / "config.json", label2id={"contradiction": 0, "neutral": 2, "entailment": 1})
    with pytest.raises(RunError, match=r"id2label .*label2id"):
        check(copy)


def test_labels_that_are_not_the_teachers_are_noticed_unless_the_head_was_replaced(copy, tmp_path):
    tiny_bart(tmp_path / "teacher", labels=GLUE_LABELS)
    with pytest.raises(RunError, match=r"labels .*teacher"):
        check(copy, start=str(tmp_path / "teacher"))
    edit_json(copy / "training_args.json", reinit_classifier=True)
    check(copy, start=str(tmp_path / "teacher"))


def test_generic_names_of_the_starting_model_are_no_contradiction(copy, tmp_path):
    tiny_bart(tmp_path / "teacher", labels=("LABEL_0", "LABEL_1", "LABEL_2"))
    check(copy, start=str(tmp_path / "teacher"))


def test_embeddings_that_are_not_shared_are_noticed(copy):
    edit_json(copy / "config.json", tie_word_embeddings=False)
    weights = load_file(copy / "model.safetensors")
    for part in ("encoder", "decoder"):
        weights[f"model.{part}.embed_tokens.weight"] = weights["model.shared.weight"].clone()
    save_file(weights, copy / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(RunError, match="embeddings"):
        check(copy)


def test_a_missing_tensor_is_noticed(copy):
    edit_weights(copy, lambda weights: weights.pop("classification_head.out_proj.bias"))
    with pytest.raises(RunError, match=r"missing keys: classification_head.out_proj.bias"):
        check(copy)


def test_a_tensor_too_many_is_noticed(copy):
    edit_weights(copy, lambda weights: weights.update({"stray": torch.zeros(1)}))
    with pytest.raises(RunError, match="unexpected keys: stray"):
        check(copy)


def test_weights_that_are_not_finite_are_noticed(copy):
    edit_weights(copy, lambda weights: weights["classification_head.out_proj.bias"].fill_(float("nan")))
    with pytest.raises(RunError, match="not finite"):
        smoke_test(copy)


@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
def test_a_cut_off_file_is_noticed(copy, name):
    content = (copy / name).read_bytes()
    (copy / name).write_bytes(content[: len(content) // 2])
    with pytest.raises(RunError, match="cannot load the model"):
        check(copy)


def test_a_tokenizer_of_another_vocabulary_is_noticed(copy):
    tokenizer = json.loads((copy / "tokenizer.json").read_text())
    vocab = tokenizer["model"]["vocab"]
    names = list(vocab)
    shifted = dict(zip(names[10:], [*names[11:], names[10]], strict=True))
    tokenizer["model"]["vocab"] = {shifted.get(name, name): index for name, index in vocab.items()}
    (copy / "tokenizer.json").write_text(json.dumps(tokenizer))
    with pytest.raises(RunError, match=r"eval_predictions_mnli.tsv"):
        check(copy)


def test_a_pipeline_that_ranks_otherwise_than_nli_by_hand_is_noticed(copy, monkeypatch):
    stock = module.pipeline

    def reversed_pipeline(*arguments, **options):
        classify = stock(*arguments, **options)
        return lambda *a, **o: {key: value[::-1] for key, value in classify(*a, **o).items() if key != "sequence"}

    monkeypatch.setattr(module, "pipeline", reversed_pipeline)
    with pytest.raises(RunError, match="zero-shot pipeline"):
        check(copy)
