"""A training with the encoder cache is the one without, and there is one where it pays."""

import json
import logging
from pathlib import Path

import numpy as np
import pytest
import torch

from distilbart_mnli.errors import InputError
from distilbart_mnli.model.bart import ShortCutBart
from tests.support.in_process import train, weights
from tests.support.tiny import tiny_bart, tiny_tokenizer


@pytest.mark.parametrize(("dtype", "tolerance"), [({}, 1e-5), ({"bf16": True}, 2e-2)], ids=["float32", "bfloat16"])
def test_a_training_with_the_encoder_cache_is_the_one_without(options, tmp_path, dtype, tolerance):
    """Losses, and the update (not only the weights, which a training of a few steps hardly moves)."""
    frozen = {**options, **dtype, "freeze_encoder": True, "freeze_embeds": True}
    cached = train(**{**frozen, "output_dir": tmp_path / "cached", "cache_encoder_outputs": "true"})
    plain = train(**{**frozen, "output_dir": tmp_path / "plain", "cache_encoder_outputs": "false"})
    assert cached.objective.gathered["states"] is not None and plain.objective.gathered["states"] is None
    losses = [[entry["loss"] for entry in t.state.progress.log_history] for t in (cached, plain)]
    np.testing.assert_allclose(*losses, rtol=tolerance)
    before = weights(Path(str(options["model_name_or_path"])))
    found, expected = weights(cached.run.output_dir), weights(plain.run.output_dir)
    change = torch.cat([(expected[name] - before[name]).flatten() for name in before])
    difference = torch.cat([(found[name] - expected[name]).flatten() for name in before])
    assert difference.norm() <= tolerance * change.norm() and change.norm() > 0


def test_the_second_student_of_a_teacher_does_not_run_the_encoder_at_all(options, made, tmp_path, monkeypatch):
    frozen = {**options, "freeze_encoder": True, "freeze_embeds": True}
    train(**frozen)
    other = tiny_bart(seed=3, decoder_layers=1)
    other.model.encoder.load_state_dict(tiny_bart().model.encoder.state_dict())
    other.save_pretrained(tmp_path / "other")
    tiny_tokenizer(tmp_path / "other")
    monkeypatch.setattr(ShortCutBart, "encode", lambda *_: pytest.fail("the encoder ran"))
    train(**{**frozen, "model_name_or_path": tmp_path / "other", "output_dir": tmp_path / "second"})


def test_auto_declines_where_it_pays_nothing_and_says_why(options, caplog):
    caplog.set_level(logging.INFO)
    frozen = {**options, "freeze_encoder": True, "freeze_embeds": True}
    once = train(**{**frozen, "num_train_epochs": 1})
    assert once.objective.gathered["states"] is None
    assert sum("none for train: the run reads every example at most once" in line for line in caplog.messages) == 1
    small = train(**{**frozen, "overwrite_output_dir": True, "encoder_cache_max_gb": 0})
    assert small.objective.gathered["states"] is None and "encoder_cache_max_gb is 0" in caplog.text
    trained = train(**{**options, "overwrite_output_dir": True})
    assert trained.objective.gathered["states"] is None and not list(
        Path(options["encoder_cache_dir"]).glob("*/states.bin")
    )


def test_a_cache_that_is_wanted_and_does_not_fit_stops_the_run(options):
    frozen = {**options, "freeze_encoder": True, "cache_encoder_outputs": "true", "encoder_cache_max_gb": 0.0}
    with pytest.raises(
        InputError, match=r"cache_encoder_outputs is true, but it needs 0\.00 GB, encoder_cache_max_gb"
    ):
        train(**frozen)
    assert not Path(options["output_dir"]).exists()


def test_the_evaluation_sets_are_cached_when_they_are_read_more_than_once(options):
    frozen = {**options, "freeze_encoder": True, "freeze_embeds": True, "do_eval": True}
    train(**frozen)
    caches = list(Path(options["encoder_cache_dir"]).glob("*/meta.json"))
    assert {json.loads(path.read_text())["split"] for path in caches} == {"train"}
    train(**{**frozen, "eval_strategy": "epoch", "overwrite_output_dir": True})
    caches = list(Path(options["encoder_cache_dir"]).glob("*/meta.json"))
    assert {json.loads(path.read_text())["split"] for path in caches} == {"train", "mnli", "mnli-mm"}
