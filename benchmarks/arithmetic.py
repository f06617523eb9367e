"""Multiply-adds of BART's classifier, counted from its matrix products, forward and backward.

A product of [m, k] and [k, n] is m k n multiply-adds; its backward pass is as many again for each operand that needs a
gradient. Attention counts the scores it computes (all of them: the kernels do not skip the causal half). What flash
kernels compute a second time in the backward pass is not counted; neither are norms, softmax, lookups and AdamW.
tests/unit/benchmarks/test_benchmarks.py compares these figures with torch's own counter.

`shapes` are (rows, padded length) of every batch.
"""

from collections.abc import Iterable
from typing import Literal

from transformers import BartConfig

Shapes = Iterable[tuple[int, int]]


def encoder(config: BartConfig, shapes: Shapes, trained: bool = False) -> int:
    """The encoder's forward pass; `trained`: and backward, embeddings included."""
    d, ffn = config.d_model, config.encoder_ffn_dim
    once = sum(n * s * (4 * d * d + 2 * d * ffn + 2 * s * d) for n, s in shapes)
    return config.encoder_layers * once * (3 if trained else 1)


def head(config: BartConfig, rows: int) -> int:
    """The classification head, forward and backward."""
    return 3 * rows * (config.d_model**2 + config.d_model * config.num_labels)


def stock_decoder_layer(config: BartConfig, shapes: Shapes, states_have_gradient: bool) -> int:
    """Forward and backward of one decoder layer at every position.

    Args:
        states_have_gradient: the encoder is trained, so the cross-attention's inputs need a gradient.
    """
    d, ffn = config.d_model, config.decoder_ffn_dim
    total = 0
    for rows, length in shapes:
        tokens = rows * length
        target_side = tokens * (6 * d * d + 2 * d * ffn)  # self q, k, v, o; cross q, o; feed-forward
        cross_keys_values = tokens * 2 * d * d
        attention = tokens * 4 * length * d
        total += 3 * (target_side + attention) + (3 if states_have_gradient else 2) * cross_keys_values
    return total


def last_decoder_layer(config: BartConfig, shapes: Shapes) -> int:
    """Ours: the last layer at one position, without keys and values; forward and backward, constant states."""
    d, ffn, heads = config.d_model, config.decoder_ffn_dim, config.decoder_attention_heads
    total = 0
    for rows, length in shapes:
        one_position = rows * (8 * d * d + 2 * d * ffn)  # q, o and the two absorbed products, self and cross
        over_tokens = 2 * rows * length * heads * d  # scores and context, for self-attention and again for cross
        # Cached states need no gradient; with one layer only the norm of the embeddings needs one, and it has it.
        total += 3 * one_position + 3 * over_tokens + 2 * over_tokens
    return total


def ours(config: BartConfig, shapes: Shapes) -> int:
    """Forward and backward of what is trained, on cached states."""
    shapes = list(shapes)
    inner = (config.decoder_layers - 1) * stock_decoder_layer(config, shapes, states_have_gradient=False)
    return inner + last_decoder_layer(config, shapes) + head(config, sum(rows for rows, _ in shapes))


def stock(config: BartConfig, shapes: Shapes, encoder_is: Literal["trained", "frozen", "cached"]) -> int:
    """The same for the stock classifier; "frozen" computes the encoder forward."""
    shapes = list(shapes)
    total = config.decoder_layers * stock_decoder_layer(config, shapes, encoder_is == "trained")
    total += head(config, sum(rows for rows, _ in shapes))
    if encoder_is != "cached":
        total += encoder(config, shapes, trained=encoder_is == "trained")
    return total


def published_limit(layers: int, variant: Literal["a", "b", "e"], encoder_layers: int = 12) -> float:
    """The ratio to ours that a count in units of d_model squared a token allows, where the last layer keeps its keys
    and values (4 a token, 12 with backward), attention's own products are left out, and the shares of real tokens are
    31 % (padded to 128), 45 % (random batches) and 96 % (ours)."""
    ours_a_token = (48 * (layers - 1) + 12) / 0.96
    of_variant = {
        "a": (12 * encoder_layers + 48 * layers) * MAX_LENGTH / MEAN_LENGTH,
        "b": (36 * encoder_layers + 48 * layers) / 0.45,
        "e": 48 * layers / 0.96,
    }
    return of_variant[variant] / ours_a_token


MAX_LENGTH, MEAN_LENGTH = 128, 40
