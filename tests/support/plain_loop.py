"""A training written out: the stock model, one batch a step, torch's AdamW, transformers' schedule.

weights, losses, rates = by_hand(made)          # dropout 0
assert_equal_training(training, by_hand(made))
"""

import math
from pathlib import Path

import numpy as np
import torch
from transformers import AutoTokenizer, BartForSequenceClassification, get_scheduler

from distilbart_mnli.data.batches import epoch_order
from distilbart_mnli.data.splits import load_train
from distilbart_mnli.data.tasks import TASKS
from distilbart_mnli.options.fields import Arguments
from distilbart_mnli.train.loop import Training
from tests.support.in_process import weights
from tests.support.tiny import tiny_bart

EXAMPLES, BATCH = 30, 12  # two whole steps an epoch, and one of 6 examples
TEACHER_IDS = {"contradiction": 0, "neutral": 1, "entailment": 2}
# Adam divides by the gradient's size; a large epsilon keeps it from blowing up the rounding of gradients that are 0.
ADAM = {"learning_rate": 5e-3, "adam_epsilon": 1e-3, "adam_beta2": 0.98, "weight_decay": 0.01}


def by_hand(made: Path, steps: int = 6, smoothing: float = 0.0, frozen=True, warmup=0, schedule="linear", clip=1.0):
    """(weights, loss of every step, learning rate after it) of the plain loop."""
    model = BartForSequenceClassification.from_pretrained(made / "student", dtype=torch.float32).train()
    tokenizer = AutoTokenizer.from_pretrained(made / "student")
    split = load_train(Arguments(data_dir=str(made / "data")), TASKS["mnli"])
    names = TASKS["mnli"].label_names
    labels = torch.tensor([TEACHER_IDS[names[label]] for label in split.labels])
    if frozen:
        model.model.encoder.requires_grad_(False)
        model.model.decoder.embed_positions.requires_grad_(False)
    undecayed = [p for n, p in model.named_parameters() if n.endswith("bias") or "layer_norm" in n or "layernorm" in n]
    kept = {id(parameter) for parameter in undecayed}
    decayed = [parameter for parameter in model.parameters() if id(parameter) not in kept]
    groups = [{"params": decayed, "weight_decay": 0.01}, {"params": undecayed, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=5e-3, betas=(0.9, 0.98), eps=1e-3, foreach=False)
    scheduler = get_scheduler(schedule, optimizer, num_warmup_steps=warmup, num_training_steps=steps)
    lengths = np.array([len(ids) for ids in tokenizer(split.sentence1, split.sentence2)["input_ids"]])
    losses, rates = [], []
    for epoch in range(math.ceil(steps / 3)):
        for rows in epoch_order(lengths, 42, epoch, BATCH, "group_by_length")[: steps - len(losses)]:
            texts = ([column[row] for row in rows] for column in (split.sentence1, split.sentence2))
            batch = tokenizer(*texts, padding=True, return_tensors="pt")
            logits = model(**batch).logits
            loss = torch.nn.functional.cross_entropy(logits, labels[rows], label_smoothing=smoothing)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), clip)
            optimizer.step()
            scheduler.step()
            optimizer.zero_grad()
            losses.append(float(loss.detach()))
            rates.append(scheduler.get_last_lr()[0])
    return {name: tensor.detach() for name, tensor in model.state_dict().items()}, losses, rates


def assert_equal_training(training: Training, reference, tolerance=1e-5) -> None:
    expected, losses, rates = reference
    logged = [entry for entry in training.state.progress.log_history if "loss" in entry]
    np.testing.assert_allclose([entry["loss"] for entry in logged], losses, rtol=tolerance)
    np.testing.assert_allclose([entry["learning_rate"] for entry in logged], rates, rtol=1e-6, atol=1e-15)
    saved = weights(training.run.output_dir)
    for name, tensor in saved.items():
        # The floor is for k_proj.bias, whose gradient is 0 but for rounding, and which stays 0.
        assert (tensor - expected[name]).abs().max() <= tolerance * max(float(expected[name].abs().max()), 0.01), name
    untrained = tiny_bart().state_dict()
    moved = [name for name in saved if not torch.equal(saved[name], untrained[name])]
    assert len(moved) > 20
