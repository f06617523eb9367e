"""Stock BART and the short cut with the same weights, and batches for both."""

import copy

import torch
from transformers import BartForSequenceClassification

from distilbart_mnli.model.bart import ShortCutBart
from tests.support.tiny import tiny_config

LENGTHS = (9, 4, 17, 3)


def close(found: torch.Tensor, expected: torch.Tensor, tolerance: float) -> bool:
    """Largest difference, relative to the largest value."""
    return (found - expected).abs().max() <= tolerance * expected.abs().max()


def pairs(lengths=LENGTHS, side="right", seed=0) -> tuple[torch.Tensor, torch.Tensor]:
    """Ids of `<s> A </s></s> B </s>` with three eos in every row (stock insists), padded on `side`; and the mask."""
    generator = torch.Generator().manual_seed(seed)
    ids = torch.full((len(lengths), max(lengths)), 1)
    mask = torch.zeros_like(ids)
    for row, length in enumerate(lengths):
        text = torch.randint(5, 400, (length,), generator=generator)
        text[0] = 0
        text[-1] = 2
        middle = max(1, length // 2 - 1)
        text[middle] = 2
        if length > 3:
            text[middle + 1] = 2
        place = slice(0, length) if side == "right" else slice(max(lengths) - length, None)
        ids[row, place], mask[row, place] = text, 1
    return ids, mask


def both(decoder_layers=2, attention="sdpa", **config) -> tuple[BartForSequenceClassification, ShortCutBart]:
    """Stock and short-cut models with equal weights (whose biases are not zero, as in a trained model)."""
    config = tiny_config(decoder_layers=decoder_layers, **config)
    torch.manual_seed(0)
    stock = BartForSequenceClassification._from_config(config, attn_implementation=attention)
    with torch.no_grad():
        for parameter in stock.parameters():
            if parameter.dim() == 1:
                parameter.add_(torch.randn_like(parameter) * 0.2)
    ours = ShortCutBart._from_config(copy.deepcopy(config), attn_implementation=attention)
    missing, unexpected = ours.load_state_dict(stock.state_dict())
    assert not missing and not unexpected
    assert ours.config._attn_implementation == stock.config._attn_implementation == attention
    return stock.eval(), ours.eval()
