"""What the field's scripts do, plainly: stock transformers models and plain loops. Nothing is imported from
distilbart_mnli, so anyone can check that these are not held back.

    (a) the recipe of 2020        every pair padded to 128, encoder and embeddings frozen, dropout on in both stacks,
                                  gradients clipped (transformers' Trainer did it)
    (b) run_glue_no_trainer.py    everything trained, random batches padded to their longest pair, no clipping
    (e) the stock decoder         encoder and embeddings frozen, on encoder states that are handed to it

All of them are given what makes them faster and costs them nothing: rows tokenised beforehand, fused AdamW, gradients
set to None, scaled dot product attention, bf16 autocast where the run is in bf16, no `loss.item()` in the loop.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import BartConfig, BartForSequenceClassification, get_linear_schedule_with_warmup


def save_random_student(config: BartConfig, folder: Path, seed: int = 0) -> None:
    """A stock model with random weights. Its encoder depends on the seed alone, as students of one teacher share it.

    (Seeding alone does not give that: the order in which transformers draws weights depends on the decoder's layers.)
    """
    torch.manual_seed(seed)
    one_layer = BartConfig.from_dict({**config.to_dict(), "decoder_layers": 1})
    encoder = BartForSequenceClassification._from_config(one_layer, dtype=torch.float32).model.encoder
    model = BartForSequenceClassification._from_config(config, dtype=torch.float32)
    model.model.encoder.load_state_dict(encoder.state_dict())
    model.save_pretrained(folder)


def load_student(folder: Path, device: str, frozen: bool) -> BartForSequenceClassification:
    """The stock model in train mode; `frozen`: no gradients for the encoder and the embedding tables."""
    model = BartForSequenceClassification.from_pretrained(folder, dtype=torch.float32, attn_implementation="sdpa")
    if frozen:
        model.model.encoder.requires_grad_(False)
        model.model.shared.requires_grad_(False)
        model.model.decoder.embed_positions.requires_grad_(False)
    return model.to(device).train()


def make_optimizer(model: torch.nn.Module) -> tuple[torch.optim.AdamW, torch.optim.lr_scheduler.LRScheduler]:
    """AdamW with the recipe's figures and two groups, and the linear schedule."""
    no_decay = ("bias", "LayerNorm.weight")
    trained = [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]
    groups = [
        {"params": [p for name, p in trained if not any(part in name for part in no_decay)], "weight_decay": 0.01},
        {"params": [p for name, p in trained if any(part in name for part in no_decay)], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=3e-5, betas=(0.9, 0.98), eps=1e-8, fused=True)
    return optimizer, get_linear_schedule_with_warmup(optimizer, 500, 1_000_000)


def collate(rows: list[Tensor], labels: Tensor, pad_token_id: int, length: int | None, device: str) -> dict[str, Any]:
    """Rows of ids, padded to `length`, or to the longest of them."""
    ids = pad_sequence(rows, batch_first=True, padding_value=pad_token_id)
    if length is not None:
        ids = torch.nn.functional.pad(ids, (0, length - ids.shape[1]), value=pad_token_id)
    batch = {"input_ids": ids, "attention_mask": (ids != pad_token_id).long(), "labels": labels}
    return {name: tensor.to(device, non_blocking=True) for name, tensor in batch.items()}


def train_step(
    model: BartForSequenceClassification,
    optimizer: torch.optim.Optimizer,
    scheduler: torch.optim.lr_scheduler.LRScheduler,
    batches: Iterable[dict[str, Any]],
    accumulation: int,
    dtype: torch.dtype,
    max_grad_norm: float | None,
) -> Tensor:
    """One optimizer step on `accumulation` batches; the mean loss."""
    total = torch.zeros((), device=model.device)
    for batch in batches:
        with torch.autocast(model.device.type, dtype=torch.bfloat16, enabled=dtype == torch.bfloat16):
            loss = model(**batch).loss / accumulation
        loss.backward()
        total += loss.detach()
    if max_grad_norm is not None:
        torch.nn.utils.clip_grad_norm_([p for p in model.parameters() if p.requires_grad], max_grad_norm)
    optimizer.step()
    scheduler.step()
    optimizer.zero_grad(set_to_none=True)
    return total
