"""An empty second text is a pair in a run, and in the test of a model before it is published.

huggingface/transformers#37537: beside a bare text, an empty text_pair counts as none and the separators of a pair are
missing; in lists it counts as a text.
"""

import torch
from transformers import AutoTokenizer, BartForSequenceClassification

from distilbart_mnli.publish.smoke_test import Predictions, smoke_test
from tests.support.in_process import run
from tests.support.tiny import tiny_bart, tiny_mnli


def test_a_model_evaluated_on_an_empty_second_text_is_published(tmp_path):
    tiny_bart(tmp_path / "start", decoder_layers=1)
    data = tiny_mnli(tmp_path / "data", train=16, matched=9, mismatched=4)
    dev = data / "dev_matched.tsv"
    rows = [line.split("\t") for line in dev.read_text().splitlines()]
    rows[3][9], rows[5][8] = "", ""
    dev.write_text("".join("\t".join(row) + "\n" for row in rows))
    options = {"data_dir": data, "do_train": True, "do_eval": True, "max_steps": 1, "learning_rate": 1e-3}
    folder = run(model_name_or_path=tmp_path / "start", output_dir=tmp_path / "out", **options)
    predictions = folder / "eval_predictions_mnli.tsv"
    smoke_test(folder, Predictions(predictions, [(row[8], row[9]) for row in rows[1:]], 128), str(tmp_path / "start"))
    # The run's logits are those of a pair, as stock computes them.
    model, tokenizer = BartForSequenceClassification.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    with torch.no_grad():
        stock = model(**tokenizer([rows[3][8]], [""], return_tensors="pt")).logits[0]
    written = torch.tensor([float(value) for value in predictions.read_text().splitlines()[3].split("\t")[3:]])
    torch.testing.assert_close(stock, written, atol=1e-5, rtol=1e-4)
