"""Logits of a set by any function of arrays, in one process: ONNX Runtime's session, or torch behind the same call.

logits = array_logits(compute, tokens, config.pad_token_id, batch_tokens=1024)      # float32 [rows, num_labels]

A training's evaluation is model/predict.py: several processes, a device, cached states.
"""

from collections.abc import Callable

import numpy as np

from distilbart_mnli.data.batches import Collator, MicroBatch, Padding
from distilbart_mnli.data.tokens import TokenizedSplit
from distilbart_mnli.model.frozen_encoder import encoder_batches


def array_logits(
    compute: Callable[[np.ndarray, np.ndarray], np.ndarray],
    split: TokenizedSplit,
    pad_token_id: int,
    batch_tokens: int,
    report: Callable[[int], object] = lambda rows: None,
) -> np.ndarray:
    """float32 [rows, num_labels], in the order of the rows; computed in length order.

    Args:
        compute: input_ids, attention_mask int64 [batch, length] -> float32 [batch, num_labels].
        split: at least one row.
        batch_tokens: padded tokens of a batch.
        report: called with the number of rows of every batch that is done.
    """
    collate = Collator(split, pad_token_id, Padding(int(split.lengths.max())))
    order, parts = encoder_batches(split.lengths, batch_tokens), []
    for rows in order:
        batch = collate(MicroBatch(rows, np.ones(len(rows), np.float32)))
        parts.append(compute(batch["input_ids"].numpy(), batch["attention_mask"].numpy()))
        report(len(rows))
    computed = np.concatenate(parts)
    logits = np.empty_like(computed)
    logits[np.concatenate(order)] = computed
    return logits
