"""The exact short cut through BART's classifier, and freezing.

The classification head reads one vector: the decoder's state at the last `</s>`. So the last decoder layer needs one
query position. Everything that follows from the query side (query and output projections, both residuals, the
feed-forward network, three layer norms) is computed there alone.

With one query a position, keys and values need not be formed either. Per head h, with query q_h (after scaling) and
states x_t,

    score_h(t) = q_h . (W_k,h x_t + b_k,h)            = (q_h W_k,h) . x_t + q_h . b_k,h
    out_h      = sum_t p_h(t) (W_v,h x_t + b_v,h)     = W_v,h (sum_t p_h(t) x_t) + b_v,h sum_t p_h(t)

which is the same number by the associativity of the product (the rearrangement that DeepSeek-V2, arXiv 2405.04434,
section 2.1.2, calls absorbing the projection). In units of d_model squared multiply-adds a token the last layer costs,
forward, 4 with stock's keys and values, and 4 H / d_model without them (1/16 for bart-large's H = 16 heads), plus 16
an example. Nothing is approximated: tests/unit/model/test_bart.py compares logits, gradients and an optimizer step
with stock transformers.

Saved models are stock (`to_stock`): the class below never reaches a config.json.
"""

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from transformers import BartConfig, BartForSequenceClassification
from transformers.masking_utils import (
    ALL_MASK_ATTENTION_FUNCTIONS,
    bidirectional_mask_function,
    causal_mask_function,
)
from transformers.models.bart.modeling_bart import BartAttention, BartDecoderLayer, shift_tokens_right

from distilbart_mnli.data.tokens import digest_of
from distilbart_mnli.model.kernels import choose_linear_kernels

# Devices on which stock may look whether a batch has padding at all (attention_masks); XLA: train/device.py.
HOST_READS_ARE_FREE = ("cpu", "xla")


def last_eos_position(input_ids: Tensor, eos_token_id: int) -> Tensor:
    """Index of the last eos of every row: int64 [batch]; 0 where there is none.

    Computed by arithmetic. Stock's `hidden_states[eos_mask]` has a data-dependent shape, which breaks compiled graphs,
    and raises for the whole batch when a text contains a literal `</s>`.
    """
    positions = torch.arange(input_ids.shape[1], device=input_ids.device)
    return (input_ids.eq(eos_token_id) * positions).amax(dim=1)


def attention_masks(config: BartConfig, attention_mask: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor | None]:
    """What stock's encoder and decoder are given as masks of the source and of the past.

    Left to themselves, they look whether a batch has padding at all, to leave its mask out. That reads a tensor on the
    host, up to three times a forward pass, and the host must not wait for a GPU in every step. So there the masks are
    made beforehand, by stock's own utilities: [batch, 1, length, length].
    """
    if attention_mask.device.type in HOST_READS_ARE_FREE:
        return attention_mask, None
    batch, length = attention_mask.shape
    make = ALL_MASK_ATTENTION_FUNCTIONS[config._attn_implementation]
    masks = [
        make(
            batch_size=batch,
            q_length=length,
            kv_length=length,
            mask_function=function,
            attention_mask=real,
            allow_is_causal_skip=False,
            allow_is_bidirectional_skip=False,
            dtype=dtype,
            device=attention_mask.device,
        )
        for function, real in ((bidirectional_mask_function, attention_mask.bool()), (causal_mask_function, None))
    ]
    return masks[0], masks[1]


def attend_from_one_position(attention: BartAttention, query: Tensor, states: Tensor, mask: Tensor) -> Tensor:
    """What `attention` gives for one query a row, without forming keys and values.

    Args:
        attention: the stock module; only its weights, sizes and dropout are used.
        query: [batch, 1, d_model], before the query projection.
        states: [batch, length, d_model], before the key and value projections.
        mask: bool [batch, length], true where the query may look; at least one true a row.

    Returns:
        [batch, 1, d_model], after the output projection.
    """
    batch, _, width = query.shape
    heads, head_dim = attention.num_heads, attention.head_dim
    queries = (attention.q_proj(query) * attention.scaling).view(batch, heads, head_dim)
    absorbed = torch.einsum("bhd,hdm->bhm", queries, attention.k_proj.weight.view(heads, head_dim, width))
    states = states.to(absorbed.dtype)  # once: autocast would convert it for each of the two products
    scores = torch.matmul(absorbed, states.transpose(1, 2))
    # The same number at every position, so the softmax drops it; it stays so that the bias has its (zero) gradient.
    scores = scores + (queries * attention.k_proj.bias.view(heads, head_dim)).sum(-1, keepdim=True)
    scores = scores.masked_fill(~mask[:, None, :], torch.finfo(scores.dtype).min)
    weights = nn.functional.softmax(scores, dim=-1)
    weights = nn.functional.dropout(weights, p=attention.dropout, training=attention.training)
    context = torch.matmul(weights.to(absorbed.dtype), states)
    values = torch.einsum("bhm,hdm->bhd", context, attention.v_proj.weight.view(heads, head_dim, width))
    values = values + attention.v_proj.bias.view(heads, head_dim) * weights.sum(-1, keepdim=True)
    return attention.out_proj(values.reshape(batch, 1, width))


class LastPositionDecoderLayer(BartDecoderLayer):
    """The last decoder layer, computed at the position that the head reads. Weights and their names are stock's."""

    def forward(
        self,
        hidden_states: Tensor,
        attention_mask: Tensor | None = None,
        encoder_hidden_states: Tensor | None = None,
        encoder_attention_mask: Tensor | None = None,
        *,
        last_position: Tensor,
        source_mask: Tensor,
        **kwargs: Any,
    ) -> Tensor:
        """[batch, length, d_model] -> [batch, 1, d_model].

        Args:
            last_position: int64 [batch], the position that the head reads.
            source_mask: bool [batch, source length], true at the encoder's real tokens.

        Both stock masks are ignored: what they allow at one position is `positions <= last_position` and
        `source_mask`, whatever the attention implementation wants them to look like.
        """
        assert encoder_hidden_states is not None
        positions = torch.arange(hidden_states.shape[1], device=hidden_states.device)
        causal = positions[None, :] <= last_position[:, None]

        residual = hidden_states.gather(1, last_position[:, None, None].expand(-1, 1, hidden_states.shape[-1]))
        attended = attend_from_one_position(self.self_attn, residual, hidden_states, causal)
        state = self.self_attn_layer_norm(residual + self._drop(attended, self.dropout))

        attended = attend_from_one_position(self.encoder_attn, state, encoder_hidden_states, source_mask)
        state = self.encoder_attn_layer_norm(state + self._drop(attended, self.dropout))

        inner = self._drop(self.activation_fn(self.fc1(state)), self.activation_dropout)
        return self.final_layer_norm(state + self._drop(self.fc2(inner), self.dropout))

    def _drop(self, states: Tensor, p: float) -> Tensor:
        return nn.functional.dropout(states, p=p, training=self.training)


class ShortCutBart(BartForSequenceClassification):
    """BartForSequenceClassification with the short cut: same weights, same names, same logits, less arithmetic."""

    def __init__(self, config: BartConfig, **kwargs: Any):
        super().__init__(config, **kwargs)
        last = config.decoder_layers - 1
        self.model.decoder.layers[last] = LastPositionDecoderLayer(config, layer_idx=last)
        self.post_init()
        choose_linear_kernels(self)
        # True: the encoder has no gradient and no dropout, so its outputs are constants of the input.
        self.encoder_is_constant = False
        self.encoder_is_frozen = False

    def train(self, mode: bool = True) -> "ShortCutBart":
        super().train(mode)
        if self.encoder_is_constant:
            self.model.encoder.eval()
        return self

    def encode(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Encoder states [batch, length, d_model]; without a graph when the encoder is frozen."""
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.encoder_is_frozen):
            real, _ = attention_masks(self.config, attention_mask, self.model.shared.weight.dtype)
            return self.model.encoder(input_ids=input_ids, attention_mask=real).last_hidden_state

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor, encoder_hidden_states: Tensor | None = None
    ) -> Tensor:
        """Logits [batch, num_labels].

        Args:
            input_ids: int64 [batch, length], padded on either side.
            attention_mask: [batch, length], 1 at real tokens.
            encoder_hidden_states: [batch, length, d_model] if they are already known (encoder_cache.py).
        """
        if encoder_hidden_states is None:
            encoder_hidden_states = self.encode(input_ids, attention_mask)
        decoder_input_ids = shift_tokens_right(input_ids, self.config.pad_token_id, self.config.decoder_start_token_id)
        real, past = attention_masks(self.config, attention_mask, self.model.shared.weight.dtype)
        state = self.model.decoder(
            input_ids=decoder_input_ids,
            attention_mask=past,
            encoder_hidden_states=encoder_hidden_states,
            encoder_attention_mask=real,
            use_cache=False,
            last_position=last_eos_position(input_ids, self.config.eos_token_id),
            source_mask=attention_mask.bool(),
        ).last_hidden_state
        return self.classification_head(state[:, 0])


def freeze(model: ShortCutBart, encoder: bool, embeddings: bool, encoder_dropout: bool = False) -> None:
    """Stop the gradients of the encoder and of the embedding tables.

    `shared`, `encoder.embed_tokens` and `decoder.embed_tokens` are one tensor, so freezing the encoder freezes the
    token table in any case; `embeddings` adds both position tables (2020's freeze_embeds).

    Args:
        encoder_dropout: a frozen encoder runs in train mode, as in 2020; its outputs are then no constants.
    """
    if encoder:
        model.model.encoder.requires_grad_(False)
    if embeddings:
        model.model.shared.requires_grad_(False)
        for stack in (model.model.encoder, model.model.decoder):
            stack.embed_tokens.requires_grad_(False)
            stack.embed_positions.requires_grad_(False)
    model.encoder_is_frozen = encoder
    model.encoder_is_constant = encoder and not encoder_dropout
    model.train(model.training)


def compile_layers(model: ShortCutBart) -> None:
    """torch.compile a layer at a time, in place, for any length.

    All layers of a kind share one graph, so a student with nine decoder layers compiles as fast as one with two, and
    the next student finds the graphs in inductor's cache on disk. Compiled as one piece, the model takes minutes.
    """
    for stack in (model.model.encoder, model.model.decoder):
        for layer in stack.layers:
            layer.compile(dynamic=True)


@contextlib.contextmanager
def encoder_as_written(model: ShortCutBart) -> Iterator[None]:
    """Inside, the encoder's layers are not the compiled ones, whose products round otherwise.

    Of this model alone: torch.compiler.set_stance is the whole process's, and two threads leave it as they meet.
    """
    compiled = [(layer, layer._compiled_call_impl) for layer in model.model.encoder.layers]
    for layer, _ in compiled:
        layer._compiled_call_impl = None
    try:
        yield
    finally:
        for layer, call in compiled:
            layer._compiled_call_impl = call


def weights_digest(module: nn.Module, *first: str) -> str:
    """SHA-256 of `first` and of all weights with their names."""
    tensors = sorted(module.state_dict().items())
    return digest_of(*first, *(part for name, t in tensors for part in (name, t.detach().cpu().float().numpy())))


def count_parameters(model: nn.Module) -> tuple[int, int]:
    """(trainable, all) parameters. BART's three token tables are one tensor and counted once."""
    sizes = [(parameter.numel(), parameter.requires_grad) for parameter in model.parameters()]
    return sum(size for size, trainable in sizes if trainable), sum(size for size, _ in sizes)


def to_stock(model: BartForSequenceClassification) -> BartForSequenceClassification:
    """A stock model on the same tensors: what is saved, so that no file names a class of ours."""
    with torch.device("meta"):
        stock = BartForSequenceClassification(model.config)
    stock.load_state_dict(model.state_dict(), assign=True)
    stock.tie_weights()
    return stock.train(model.training)


def embedding_tables(model: BartForSequenceClassification) -> tuple[Tensor, ...]:
    """The token table as the model, its encoder and its decoder hold it: [vocab_size, d_model] each."""
    modules = (model.model.shared, model.model.encoder.embed_tokens, model.model.decoder.embed_tokens)
    return tuple(module.weight for module in modules)


def not_finite(model: nn.Module) -> str | None:
    """The first parameter that holds NaN or an infinity; None where there is none."""
    return next((name for name, tensor in model.named_parameters() if not torch.isfinite(tensor).all()), None)


def shares_one_table(model: BartForSequenceClassification) -> bool:
    """Whether these are one table: one tensor in a saved file, and one that is trained."""
    return len({table.data_ptr() for table in embedding_tables(model)}) == 1
