"""The encoder cache changes nothing but the time: same logits, same training; and it is never read for another input.

What it holds is compared with the encoder run by hand, row by row, without padding.
"""

import logging
import os
import shutil
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from distilbart_mnli.data.batches import Collator, MicroBatch, Padding
from distilbart_mnli.data.tokens import TokenizedSplit, digest_of
from distilbart_mnli.model import frozen_encoder
from distilbart_mnli.model.encoder_cache import open_cache
from tests.support.encoder_caches import (
    LENGTHS,
    built,
    content,
    encoded_rows,
    encoder_of,
    split_of,
    student,
)
from tests.support.files import edit_json

TOLERANCE = {"float32": 1e-5, "bfloat16": 2e-2}


# ---------------------------------------------------------------------------------------------------------------------
# What it holds


@pytest.mark.parametrize(("dtype", "width"), [("float32", 4), ("bfloat16", 2)])
def test_the_file_holds_the_encoder_s_output_of_every_real_token(tmp_path, split, dtype, width):
    model = student()
    cache, encoder = built(model, split, tmp_path, dtype), encoder_of(model, dtype)
    assert (cache.folder / "states.bin").stat().st_size == encoder.cache_bytes(split) == sum(LENGTHS) * 16 * width
    for row, (start, end) in enumerate(zip(split.offsets[:-1], split.offsets[1:], strict=True)):
        ids = torch.from_numpy(split.ids[None, start:end].astype(np.int64))
        with torch.no_grad(), encoder.autocast():
            expected = model.model.encoder(ids, attention_mask=torch.ones_like(ids)).last_hidden_state.float()
        index = np.arange(start, end)[None]
        found = cache(np.array([row]), index, np.ones_like(index, dtype=bool))
        assert found.dtype == getattr(torch, dtype)
        assert (found.float() - expected).abs().max() <= TOLERANCE[dtype] * expected.abs().max(), row


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("layers", [1, 2])
def test_logits_and_gradients_with_the_cache_are_those_without(tmp_path, split, dtype, layers):
    model = student(decoder_layers=layers)
    cache = built(model, split, tmp_path, dtype)
    batch = MicroBatch(np.array([1, 0, 4, 3]), np.ones(4, np.float32))
    results = []
    for states in (None, cache):
        tensors = Collator(split, 1, Padding(128, multiple_of=8), states)(batch)
        model.train()
        model.zero_grad(set_to_none=True)
        with encoder_of(model, dtype).autocast():
            inputs = ("input_ids", "attention_mask", "encoder_hidden_states")
            logits = model(**{name: tensors[name] for name in inputs if name in tensors})
        torch.nn.functional.cross_entropy(logits.float(), tensors["labels"]).backward()
        gradient = torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])
        results.append((logits.detach().float(), gradient))
    assert "encoder_hidden_states" in tensors
    for without, with_cache in zip(*results, strict=True):
        assert (with_cache - without).norm() <= TOLERANCE[dtype] * without.norm()


def test_nothing_of_the_padding_reaches_a_batch(tmp_path, split):
    cache = built(student(), split, tmp_path)
    tensors = Collator(split, 1, Padding(128), cache)(MicroBatch(np.array([2, 1]), np.ones(2, np.float32)))
    assert tensors["encoder_hidden_states"].shape == (2, 30, 16)
    assert (tensors["encoder_hidden_states"][0, 7:] == 0).all()
    assert (tensors["encoder_hidden_states"][0, :7] != 0).any(dim=1).all()


# ---------------------------------------------------------------------------------------------------------------------
# Hit and miss


def test_a_second_student_of_the_same_teacher_reads_what_the_first_one_wrote(tmp_path, split):
    teacher = student(seed=0)
    first = built(student(seed=1, encoder_from=teacher, decoder_layers=1), split, tmp_path)
    other = student(seed=2, encoder_from=teacher, decoder_layers=3)
    with encoded_rows(other) as seen:
        second = built(other, split, tmp_path)
    assert second.folder == first.folder and not seen
    assert len([path for path in tmp_path.iterdir() if path.is_dir()]) == 1


def test_a_moved_folder_still_hits(tmp_path, split):
    model = student()
    built(model, split, tmp_path / "here")
    (tmp_path / "here").rename(tmp_path / "there")
    with encoded_rows(model) as seen:
        built(model, split, tmp_path / "there")
    assert not seen


def key_of(model, split, dtype="float32") -> str:
    return encoder_of(model, dtype).key(split)


def test_whatever_decides_the_bits_decides_the_key(split):
    model = student()
    expected = key_of(model, split)
    assert key_of(student(), split_of(LENGTHS)) == expected
    others = [key_of(model, split, "bfloat16"), key_of(model, split, "float16")]
    # Another tokenizer, another text, another cut of long pairs: all of them are other ids.
    other = split_of(LENGTHS)
    other.ids[5] += 1
    digest = digest_of(other.ids, other.offsets)
    others.append(key_of(model, TokenizedSplit("train", other.ids, other.offsets, None, digest)))
    others.append(key_of(model, split_of([9, 31, *LENGTHS[2:]])))
    for tensor in list(model.model.encoder.state_dict().values())[::7]:
        before = tensor.view(-1)[0].item()
        tensor.view(-1)[0] = before + 1e-6 * max(1.0, abs(before))
        others.append(key_of(model, split))
        tensor.view(-1)[0] = before
    for option, value in {
        "activation_function": "relu",
        "scale_embedding": True,
        "encoder_attention_heads": 2,
    }.items():
        others.append(key_of(student(**{option: value}), split))
    eager = student()
    eager.set_attn_implementation("eager")
    others.append(key_of(eager, split))
    assert len({expected, *others}) == 1 + len(others)
    assert key_of(model, split) == expected


def test_what_does_not_touch_the_encoder_does_not_touch_the_key(split):
    model = student()
    expected = key_of(model, split)
    for tensor in [*model.model.decoder.layers.parameters(), *model.classification_head.parameters()]:
        tensor.data.add_(1)
    model.train()
    renamed = TokenizedSplit("other", split.ids, split.offsets, None, split.digest)
    assert key_of(model, renamed) == expected


@pytest.mark.parametrize("package", ["torch", "transformers"])
def test_another_release_of_the_libraries_makes_another_cache(split, package, monkeypatch):
    model = student()
    expected = key_of(model, split)
    monkeypatch.setattr(getattr(frozen_encoder, package), "__version__", "0.0")
    assert key_of(model, split) != expected


# ---------------------------------------------------------------------------------------------------------------------
# Damaged, old, somebody else's


def replaced_by_a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def replaced_by_a_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def replaced_by_a_file(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.write_text("a file")


DAMAGES = {
    "a truncated file": lambda folder: os.truncate(folder / "states.bin", 1000),
    "truncated checksums": lambda folder: os.truncate(folder / "xxh3.bin", 8),
    "no checksums": lambda folder: (folder / "xxh3.bin").unlink(),
    "no states": lambda folder: (folder / "states.bin").unlink(),
    "no meta.json": lambda folder: (folder / "meta.json").unlink(),
    "an empty meta.json": lambda folder: (folder / "meta.json").write_text(""),
    "a meta.json of something else": lambda folder: (folder / "meta.json").write_text("[1]"),
    "a meta.json of a hundred thousand lists": lambda folder: (folder / "meta.json").write_text("[" * 100_000),
    "a folder in place of meta.json": lambda folder: replaced_by_a_folder(folder / "meta.json"),
    "a pipe in place of meta.json": lambda folder: replaced_by_a_pipe(folder / "meta.json"),
    "a file in place of the folder": lambda folder: replaced_by_a_file(folder),
    "a meta.json in no encoding": lambda folder: (folder / "meta.json").write_bytes(b"\xff\xfe\x00"),
    "another dtype in meta.json": lambda folder: edit_json(folder / "meta.json", dtype="float16"),
    "a dtype of the same width in meta.json": lambda folder: edit_json(folder / "meta.json", dtype="int32"),
    "an unknown dtype in meta.json": lambda folder: edit_json(folder / "meta.json", dtype="float8"),
    "another width in meta.json": lambda folder: edit_json(folder / "meta.json", d_model="sixteen"),
    "another version of the format": lambda folder: edit_json(folder / "meta.json", version=0),
    "another number of rows": lambda folder: edit_json(folder / "meta.json", rows=3),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_cache_is_built_again_with_a_warning(tmp_path, split, damage, caplog):
    cache = built(student(), split, tmp_path)
    folder, expected = cache.folder, content(cache.folder)
    del cache
    DAMAGES[damage](folder)
    caplog.set_level(logging.WARNING)
    again = built(student(), split, tmp_path)
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert folder.name in caplog.text and "damaged" in caplog.text
    assert content(again.folder) == expected


def test_reading_a_cache_makes_it_young(tmp_path, split):
    cache = built(student(), split, tmp_path)
    os.utime(cache.folder / "meta.json", (1, 1))
    assert open_cache(cache.folder, split, encoder_of(student())) is not None
    assert (cache.folder / "meta.json").stat().st_mtime > time.time() - 60


def test_a_cache_that_others_wrote_is_read_though_its_time_cannot_be_set(tmp_path, split, monkeypatch):
    folder = built(student(), split, tmp_path).folder

    def refused(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "utime", refused)
    assert open_cache(folder, split, encoder_of(student())) is not None
