"""What is frozen, where dropout is active, and that what is saved and counted is the stock model."""

import json

import torch
from torch.nn.functional import cross_entropy
from transformers import BartForSequenceClassification

from distilbart_mnli.model.bart import ShortCutBart, attend_from_one_position, count_parameters, freeze, to_stock
from tests.support.short_cut import both, close, pairs
from tests.support.tiny import tiny_bart


def trained_for(model: ShortCutBart, steps: int) -> torch.optim.Optimizer:
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=1e-2, weight_decay=0.1)
    for step in range(steps):
        ids, mask = pairs(seed=step)
        cross_entropy(model(ids, mask), torch.tensor([0, 1, 2, 0])).backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    return optimizer


def test_a_frozen_encoder_has_no_graph_no_gradient_no_state_and_does_not_change():
    _, model = both(2, dropout=0.1)
    freeze(model, encoder=True, embeddings=False)
    model.train()
    before = {name: tensor.clone() for name, tensor in model.model.encoder.state_dict().items()}
    ids, mask = pairs()
    assert model.encode(ids, mask).grad_fn is None
    cross_entropy(model(ids, mask), torch.tensor([0, 1, 2, 0])).backward()
    assert all(p.grad is None for p in model.model.encoder.parameters())
    assert all(p.grad is not None for p in model.parameters() if p.requires_grad)
    optimizer = trained_for(model, 3)
    frozen = {id(p) for p in model.model.encoder.parameters()}
    assert optimizer.state and not frozen & {id(p) for p in optimizer.state}
    for name, tensor in model.model.encoder.state_dict().items():
        assert torch.equal(tensor, before[name]), name
    # The token table is the encoder's too; the decoder's own positions are not.
    assert not model.model.decoder.embed_tokens.weight.requires_grad
    assert model.model.decoder.embed_positions.weight.requires_grad


def test_freezing_the_embeddings_freezes_the_token_table_and_both_position_tables_only():
    _, model = both(2)
    everything = {name for name, _ in model.named_parameters()}
    freeze(model, encoder=False, embeddings=True)
    frozen = {name for name, p in model.named_parameters() if not p.requires_grad}
    assert frozen == {
        "model.shared.weight",
        "model.encoder.embed_positions.weight",
        "model.decoder.embed_positions.weight",
    }
    assert everything - frozen
    trained_for(model, 1)


def test_a_frozen_encoder_runs_without_dropout_while_the_decoder_has_it_unless_asked_otherwise():
    _, model = both(2, dropout=0.5)
    ids, mask = pairs()
    freeze(model, encoder=True, embeddings=True)
    model.train()
    assert torch.equal(model.encode(ids, mask), model.encode(ids, mask))
    assert not torch.equal(model(ids, mask), model(ids, mask))
    assert not model.model.encoder.training and model.model.decoder.training

    _, model = both(2, dropout=0.5)
    freeze(model, encoder=True, embeddings=True, encoder_dropout=True)
    model.train()
    assert not torch.equal(model.encode(ids, mask), model.encode(ids, mask))
    assert model.encode(ids, mask).grad_fn is None
    model.eval()
    assert torch.equal(model.encode(ids, mask), model.encode(ids, mask))


def test_dropout_of_the_last_layer_is_active_in_training_at_the_rates_of_the_configuration():
    """Each of the three rates alone makes two passes differ; none of them does in eval mode."""
    ids, mask = pairs()
    for rate in ("dropout", "attention_dropout", "activation_dropout"):
        _, model = both(1, **{rate: 0.5})
        model.train()
        for module in (model.model.encoder, model.classification_head):
            module.eval()
        encoded = model.encode(ids, mask).detach()
        model.model.decoder.dropout = 0.0  # of the embeddings: what is left is the layer computed at one position
        assert not torch.equal(model(ids, mask, encoded), model(ids, mask, encoded)), rate
        model.eval()
        assert torch.equal(model(ids, mask, encoded), model(ids, mask, encoded)), rate


def test_the_expected_logits_under_attention_dropout_are_those_without():
    """Inverted dropout keeps the mean of the attention's output: what is dropped is scaled back."""
    _, model = both(1, dropout=0.3)
    attention = model.model.decoder.layers[0].encoder_attn
    states, query = torch.randn(2, 7, 16), torch.randn(2, 1, 16)
    mask = torch.ones(2, 7, dtype=torch.bool)
    with torch.no_grad():
        exact = attend_from_one_position(attention.eval(), query, states, mask)
        attention.train()
        drawn = torch.stack([attend_from_one_position(attention, query, states, mask) for _ in range(1000)])
    # A mean of n draws is within 5 standard errors of the truth but once in 1.7 million times.
    assert ((drawn.mean(0) - exact).abs() <= 5 * drawn.std(0) / len(drawn) ** 0.5).all()


def test_gradient_checkpointing_gives_the_same_gradients():
    for layers in (1, 3):
        _, plain = both(layers)
        _, saving = both(layers)
        for model in (plain, saving):
            freeze(model, encoder=True, embeddings=True)
            model.train()
        saving.gradient_checkpointing_enable({"use_reentrant": False})
        ids, mask = pairs()
        for model in (plain, saving):
            cross_entropy(model(ids, mask), torch.tensor([0, 1, 2, 0])).backward()
        for (name, expected), found in zip(plain.named_parameters(), saving.parameters(), strict=True):
            if expected.requires_grad:
                assert torch.allclose(found.grad, expected.grad, rtol=1e-6, atol=1e-9), name


# ---------------------------------------------------------------------------------------------------------------------
# What is saved, what is counted


def test_a_saved_model_is_stock_and_tied(tmp_path):
    _, ours = both(2)
    ids, mask = pairs([9, 6, 17, 4])
    with torch.no_grad():
        expected = ours(ids, mask)
    to_stock(ours).save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["architectures"] == ["BartForSequenceClassification"] and "auto_map" not in config
    loaded, info = BartForSequenceClassification.from_pretrained(tmp_path, output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"]
    tables = [loaded.model.shared, loaded.model.encoder.embed_tokens, loaded.model.decoder.embed_tokens]
    assert len({table.weight.data_ptr() for table in tables}) == 1
    with torch.no_grad():
        assert close(loaded.eval()(ids, attention_mask=mask).logits, expected, 1e-5)
    assert type(to_stock(loaded)) is BartForSequenceClassification


def test_the_stock_view_shares_its_tensors_and_keeps_tied_weights_tied():
    _, ours = both(2)
    stock = to_stock(ours)
    assert stock.model.shared.weight.data_ptr() == ours.model.shared.weight.data_ptr()
    assert stock.model.decoder.embed_tokens.weight.data_ptr() == ours.model.shared.weight.data_ptr()
    assert stock.model.decoder.layers[1].fc1.weight.data_ptr() == ours.model.decoder.layers[1].fc1.weight.data_ptr()


def test_parameters_are_counted_once_each():
    model = tiny_bart()
    state = {name: tensor for name, tensor in model.state_dict().items() if "embed_tokens" not in name}
    total = sum(tensor.numel() for tensor in state.values())
    _, ours = both(2)
    assert count_parameters(ours) == (total, total)
    freeze(ours, encoder=True, embeddings=True)
    encoder = sum(t.numel() for n, t in state.items() if n.startswith("model.encoder."))
    tables = state["model.shared.weight"].numel() + state["model.decoder.embed_positions.weight"].numel()
    assert count_parameters(ours) == (total - encoder - tables, total)
