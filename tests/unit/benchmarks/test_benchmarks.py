"""The benchmarks run, at a size of nothing, and compare like with like: the references compute what stock transformers
computes and import nothing of ours, the multiply-adds are those that torch counts, rows have MNLI's lengths.

Speed itself is not tested.
"""

import copy
import json

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoTokenizer, BartForSequenceClassification
from transformers.modeling_outputs import BaseModelOutput

from benchmarks import arithmetic, lengths, padding, reference_run, references, train_speed, variants, whole_table
from distilbart_mnli.errors import CommandError
from distilbart_mnli.model.bart import ShortCutBart, freeze
from tests.support.tiny import TEACHER_LABELS, tiny_bart, tiny_config, tiny_mnli, tiny_tokenizer

SHAPES = [(3, 11), (2, 7)]


def batch_of(rows: int, length: int, vocab_size: int = 400) -> dict[str, torch.Tensor]:
    ids, _, labels = lengths.random_pairs(np.full(rows, length), vocab_size)
    tensor = torch.from_numpy(ids.astype(np.int64)).view(rows, length)
    return {"input_ids": tensor, "attention_mask": torch.ones_like(tensor), "labels": torch.from_numpy(labels)}


def counted_multiply_adds(model, batches) -> int:
    with FlopCounterMode(display=False) as counter:
        for batch in batches:
            labels = batch.pop("labels")
            output = model(**batch)
            logits = output if isinstance(output, torch.Tensor) else output.logits
            torch.nn.functional.cross_entropy(logits, labels).backward()
    return counter.get_total_flops() // 2


def test_the_random_students_of_one_table_share_their_encoder(tmp_path):
    """As the students of one teacher do; so the second finds the first one's encoder cache."""
    for layers in (1, 3):
        references.save_random_student(tiny_config(decoder_layers=layers), tmp_path / str(layers))
    one, three = (references.load_student(tmp_path / str(layers), "cpu", frozen=True) for layers in (1, 3))
    for name, tensor in one.model.encoder.state_dict().items():
        assert torch.equal(tensor, three.model.encoder.state_dict()[name]), name
    assert one.model.shared.weight.data_ptr() == one.model.encoder.embed_tokens.weight.data_ptr()


@pytest.mark.parametrize("decoder_layers", [1, 3])
@pytest.mark.parametrize("encoder_is", ["trained", "frozen", "cached"])
def test_the_multiply_adds_of_stock_are_those_that_torch_counts(tmp_path, decoder_layers, encoder_is):
    config = tiny_config(decoder_layers=decoder_layers)
    references.save_random_student(config, tmp_path)
    model = references.load_student(tmp_path, "cpu", frozen=encoder_is != "trained")
    model.set_attn_implementation("eager")  # whose products are plain ones, which torch counts on every device
    batches = [batch_of(*shape) for shape in SHAPES]
    if encoder_is == "cached":
        for batch in batches:
            with torch.no_grad():
                states = model.model.encoder(batch["input_ids"], batch["attention_mask"])
            batch["encoder_outputs"] = BaseModelOutput(last_hidden_state=states.last_hidden_state)
    assert counted_multiply_adds(model, batches) == arithmetic.stock(config, SHAPES, encoder_is)


@pytest.mark.parametrize("decoder_layers", [1, 3])
def test_the_multiply_adds_of_ours_are_those_that_torch_counts(decoder_layers, monkeypatch):
    # torch counts none of oneDNN's
    monkeypatch.setattr("distilbart_mnli.model.kernels.mkl_lacks_avx512", lambda: False)
    config = tiny_config(decoder_layers=decoder_layers)
    model = ShortCutBart._from_config(config, attn_implementation="eager").train()
    freeze(model, encoder=True, embeddings=True)
    batches = [batch_of(*shape) for shape in SHAPES]
    for batch in batches:
        batch["encoder_hidden_states"] = model.encode(batch["input_ids"], batch["attention_mask"])
    assert counted_multiply_adds(model, batches) == arithmetic.ours(config, SHAPES)


def test_the_published_count_gives_the_published_limits():
    found = [round(arithmetic.published_limit(layers, "a"), 1) for layers in (1, 3, 6, 9)]
    assert found == [49.2, 8.2, 5.3, 4.5]


def test_reference_steps_are_those_that_plain_torch_takes_on_all_rows(tmp_path):
    """Two steps of two batches of four, accumulated, against eight rows at once with nothing but torch.

    Clipping bites. (AdamW's first step does not see the gradient's scale, its second does.)
    """
    references.save_random_student(tiny_config(), tmp_path)
    model = references.load_student(tmp_path, "cpu", frozen=True)
    before, expected = (
        BartForSequenceClassification.from_pretrained(tmp_path, dtype=torch.float32).train() for _ in range(2)
    )
    optimizer, scheduler = references.make_optimizer(model)
    trained = {
        name: parameter
        for name, parameter in expected.named_parameters()
        if name.startswith(("model.decoder.layer", "classification_head"))
    }
    plain = torch.optim.AdamW(
        [{"params": [p], "weight_decay": 0.0 if "bias" in name else 0.01} for name, p in trained.items()],
        betas=(0.9, 0.98),
    )
    for length in (12, 20):
        whole = batch_of(8, length)
        halves = [{name: tensor[start : start + 4] for name, tensor in whole.items()} for start in (0, 4)]
        for group in (*optimizer.param_groups, *plain.param_groups):
            group["lr"] = 1e-3
        loss = references.train_step(model, optimizer, scheduler, halves, 2, torch.float32, 0.01)

        plain.zero_grad()
        logits = expected(whole["input_ids"], attention_mask=whole["attention_mask"]).logits
        expected_loss = torch.nn.functional.cross_entropy(logits, whole["labels"])
        expected_loss.backward()
        assert torch.nn.utils.clip_grad_norm_(trained.values(), 0.01) > 0.01
        plain.step()
        torch.testing.assert_close(loss, expected_loss.detach())

    for (name, mine), other, old in zip(
        model.named_parameters(), expected.parameters(), before.parameters(), strict=True
    ):
        if "k_proj.bias" in name:
            continue  # the softmax does not see it: its gradient is rounding, which AdamW makes large
        torch.testing.assert_close(mine, other, rtol=0, atol=2e-6, msg=name)
        assert torch.equal(mine, old) == (name not in trained), name


def test_the_script_that_trains_everything_moves_every_weight(tmp_path):
    references.save_random_student(tiny_config(), tmp_path)
    model = references.load_student(tmp_path, "cpu", frozen=False)
    before = copy.deepcopy(model)
    optimizer, scheduler = references.make_optimizer(model)
    for _ in range(2):
        references.train_step(model, optimizer, scheduler, [batch_of(4, 9)], 1, torch.float32, None)
    unmoved = [
        name
        for (name, new), old in zip(model.named_parameters(), before.parameters(), strict=True)
        if torch.equal(new, old)
    ]
    assert unmoved == []


def test_reference_batches_are_what_the_tokenizer_pads():
    tokenizer = tiny_tokenizer()
    texts = ["the cat sees a dog", "a bird"], ["the cat sees", "a small bird likes the house"]
    rows = [torch.tensor(row) for row in tokenizer(*texts)["input_ids"]]
    for length, how in ((None, {"padding": True}), (20, {"padding": "max_length", "max_length": 20})):
        batch = references.collate(rows, torch.tensor([0, 1]), tokenizer.pad_token_id, length, "cpu")
        padded = tokenizer(*texts, return_tensors="pt", **how)
        assert torch.equal(batch["input_ids"], padded["input_ids"])
        assert torch.equal(batch["attention_mask"], padded["attention_mask"])


def test_the_stock_decoder_reads_the_same_rows_and_states_as_ours(tmp_path):
    """The batches that (e) is given, through stock's whole model: the states are its encoder's."""
    options = train_speed.parse(["--size=toy", "--batch_size=4", "--gradient_accumulation_steps=2", "--steps=2"])
    recipe = train_speed.make_recipe(options, 2, tmp_path)
    stock, ours = variants.StockDecoder(recipe), variants.Ours(recipe, "d")
    stock.model.eval()
    with stock.reader.read(stock.order) as (stream, counts), ours.training.reader().read(ours.order) as (other, _):
        for given, mine in zip(stock.batches(stream, sum(counts)), other, strict=True):
            assert torch.equal(given["input_ids"], mine["input_ids"])
            states = given.pop("encoder_outputs")
            with torch.no_grad():
                torch.testing.assert_close(
                    stock.model(**given, encoder_outputs=states).logits, stock.model(**given).logits
                )
    assert stock.examples == ours.examples == 16


def test_the_steps_of_a_slice_have_the_mean_of_the_epoch():
    costs = np.random.default_rng(0).gamma(4, 10, 50)
    chosen = variants.typical_steps(costs, 5)
    assert len(set(chosen)) == 5
    assert costs[chosen].mean() == pytest.approx(costs.mean(), rel=0.03)
    assert costs[variants.typical_steps(costs, 1, longest=True)] == costs.max()


def test_the_built_in_lengths_are_those_of_mnli():
    found = lengths.mnli_lengths(392_702)
    figures = [found.mean(), *np.percentile(found, [50, 95, 99])]
    assert figures == pytest.approx([40, 37, 73, 96], abs=1)
    assert found.max() == 128


def test_random_pairs_have_their_lengths_and_three_eos():
    wanted = np.array([6, 7, 50, 128])
    ids, offsets, labels = lengths.random_pairs(wanted, 500)
    rows = np.split(ids, offsets[1:-1])
    assert [len(row) for row in rows] == wanted.tolist() and len(labels) == 4
    for row in rows:
        assert row[0] == 0 and row[-1] == 2
        first, second, _ = np.flatnonzero(row == 2)
        assert second == first + 1 and first >= 2 and second <= len(row) - 3


def test_lengths_are_taken_from_a_file(tmp_path):
    tokenizer = tiny_tokenizer(tmp_path / "tokenizer")
    data = tiny_mnli(tmp_path / "data", train=9)
    found = lengths.measured_lengths(data / "train.tsv", str(tmp_path / "tokenizer"))
    rows = [line.split("\t") for line in (data / "train.tsv").read_text().splitlines()[1:]]
    assert found.tolist() == [len(tokenizer(row[8], row[9])["input_ids"]) for row in rows]


@pytest.mark.parametrize(
    ("main", "words", "message"),
    [
        (padding.main, "--lengths_from absent.tsv tokenizer", "--lengths_from absent.tsv"),
        (padding.main, "--lengths_from {data}/train.tsv no/where", "--lengths_from tokenizer no/where"),
        (padding.main, "--output {data}/absent/padding.json", "--output"),
        (train_speed.main, "--output {data}", "--output"),
        (train_speed.main, "--device cuda", "--device cuda"),
        (whole_table.main, "--examples 128", "--examples 128"),
    ],
)
def test_options_that_cannot_be_used_are_named_at_once(tmp_path, monkeypatch, main, words, message):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    tiny_mnli(tmp_path, train=3)
    with pytest.raises(CommandError, match=message):
        main(words.format(data=tmp_path).split())


def test_padding_gives_the_share_of_every_way_to_batch(tmp_path):
    found = padding.main(["--rows", "6400", "--seeds", "1", "--epochs", "1", "--output", str(tmp_path / "p.json")])
    assert found == json.loads((tmp_path / "p.json").read_text())
    assert found["padded to 128"][0] == pytest.approx(lengths.mnli_lengths(6400).mean() / 128)
    share = {name: values[0] for name, values in found.items()}
    assert share["padded to 128"] < share["random batches of 32, padded to the longest"] < 0.5
    assert share["grouped, unrounded, 32 examples a step"] > share["grouped, rounded to 8, 32 examples a step"] > 0.88


def test_the_texts_of_the_whole_table_have_the_lengths_they_stand_for(tmp_path):
    whole_table.make_tokenizer(500).save_pretrained(tmp_path / "tokenizer")
    wanted = np.array([6, 9, 40, 128, 77])
    whole_table.write_tsv(tmp_path / "train.tsv", wanted, 500, seed=0)
    assert lengths.measured_lengths(tmp_path / "train.tsv", str(tmp_path / "tokenizer")).tolist() == wanted.tolist()
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "tokenizer")
    assert tokenizer("w4 w5", "w6")["input_ids"] == [0, 4, 5, 2, 2, 6, 2]


def test_the_labels_of_a_whole_reference_run_are_the_models():
    assert {index: name for name, index in reference_run.GLUE_TO_MODEL.items()} == dict(enumerate(TEACHER_LABELS))
    assert variants.student_config("toy", 1).id2label == dict(enumerate(TEACHER_LABELS))
    assert tiny_bart().config.id2label == dict(enumerate(TEACHER_LABELS))
