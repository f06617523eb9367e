"""What only a GPU can show: bf16, fp16 through an overflow, one compilation for all lengths, the cache, exact resume.

Run by `make gpu-check`; elsewhere every test is skipped with that reason.
"""

import json
import shutil

import pytest
import torch
from accelerate.state import AcceleratorState

from distilbart_mnli.model.bart import ShortCutBart, compile_layers, freeze
from distilbart_mnli.options.read import parse_arguments
from distilbart_mnli.train.stages import run_stages
from tests.support.launch import run
from tests.support.tiny import tiny_bart, tiny_mnli, tiny_tokenizer

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU; make gpu-check"),
]
SIZE = {"d_model": 256, "encoder_ffn_dim": 512, "decoder_ffn_dim": 512, "init_std": 0.05}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A model with dropout, and 512 training rows."""
    root = tmp_path_factory.mktemp("gpu")
    tiny_bart(root / "model", decoder_layers=3, dropout=0.1, **SIZE)
    tiny_mnli(root / "data", train=512, matched=64, mismatched=32)
    return root


def train(folder, name, *flags, check=True):
    """run_glue.py on the GPU; returns its output folder and its stderr."""
    output = folder / name
    done = run(
        "run_glue.py", "--model_name_or_path", folder / "model", "--task_name", "mnli", "--data_dir", folder / "data",
        "--do_train", "--do_eval", "--output_dir", output, "--encoder_cache_dir", folder / "cache",
        "--per_device_train_batch_size", 16, "--effective_batch_size", 32, "--num_train_epochs", 2,
        "--learning_rate", 1e-3, "--logging_steps", 4, "--freeze_encoder", "--freeze_embeds",
        "--max_seq_length", 64, "--save_steps", 12, *flags,
        env={"CUBLAS_WORKSPACE_CONFIG": ":4096:8"}, gpu=True, check=check,
    )  # fmt: skip
    return output, done.stderr


def losses(output):
    state = json.loads((output / "trainer_state.json").read_text())
    return [entry["loss"] for entry in state["log_history"] if "loss" in entry]


def batch(device, dtype=torch.int64):
    tokenizer = tiny_tokenizer()
    texts = (["a cat sees the dog", "the dog", "a big red bird eats in the old house under the garden"], ["a"] * 3)
    return {k: v.to(device) for k, v in tokenizer(*texts, padding=True, return_tensors="pt").items()}


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("autocast", [None, torch.bfloat16, torch.float16])
def test_logits_and_gradients_are_stocks_on_the_gpu(tmp_path, attention, autocast):
    from transformers import BartForSequenceClassification

    tiny_bart(tmp_path, decoder_layers=3, **SIZE)
    torch.set_float32_matmul_precision("highest")
    stock = BartForSequenceClassification.from_pretrained(tmp_path, attn_implementation=attention).cuda().train()
    ours = ShortCutBart.from_pretrained(tmp_path, attn_implementation=attention).cuda().train()
    inputs, labels = batch("cuda"), torch.tensor([0, 1, 2], device="cuda")
    outputs = []
    for model in (stock, ours):
        with torch.autocast("cuda", dtype=autocast, enabled=autocast is not None):
            logits = model(**inputs)
            logits = logits if isinstance(logits, torch.Tensor) else logits.logits
            torch.nn.functional.cross_entropy(logits.float(), labels).backward()
        outputs.append(logits.detach().float())
    tolerance = 2e-2 if autocast else 1e-5
    torch.testing.assert_close(outputs[1], outputs[0], rtol=tolerance, atol=tolerance)
    expected = dict(stock.named_parameters())
    for name, parameter in ours.named_parameters():
        scale = expected[name].grad.abs().max().item() + (1e-3 if autocast else 1e-6)
        error = (parameter.grad - expected[name].grad).abs().max().item()
        # Half precision rounds every product; its gradients are compared by their largest entry.
        assert error <= (5e-2 if autocast else 1e-4) * scale + 1e-6, name


@pytest.mark.parametrize("precision", ["--bf16", "--fp16", "--no_bf16"])
def test_the_loss_falls_in_every_precision_and_the_losses_agree(folder, precision):
    output, errors = train(folder, f"out{precision}", precision)
    values = losses(output)
    assert values[-1] < values[0] - 0.2, values
    reference, _ = train(folder, f"reference{precision}", "--no_bf16", "--no_fp16", "--cache_encoder_outputs", "false")
    # dropout draws differ between precisions only in rounding: the same order of the data, nearly the same losses
    assert abs(losses(reference)[0] - values[0]) < 0.1
    assert "on 1 machine, cuda" in errors


def test_fp16_survives_an_overflow_and_does_not_step_the_schedule(folder, monkeypatch):
    """Started at 2^40, the scaler overflows fp16 at once: those steps are skipped, and the scale comes down."""
    init = torch.amp.GradScaler.__init__

    def start_high(self, *args, **kwargs):
        init(self, *args, **{**kwargs, "init_scale": 2.0**40})

    monkeypatch.setattr(torch.amp.GradScaler, "__init__", start_high)
    output = folder / "overflow"
    flags = (
        "--model_name_or_path", folder / "model", "--task_name", "mnli", "--data_dir", folder / "data", "--do_train",
        "--output_dir", output, "--fp16", "--max_steps", 40, "--logging_steps", 1, "--learning_rate", 1e-3,
        "--freeze_encoder", "--freeze_embeds", "--cache_encoder_outputs", "false",
    )  # fmt: skip
    run_stages(parse_arguments([str(flag) for flag in flags]))
    AcceleratorState._reset_state(reset_partial_state=True)
    state = json.loads((output / "trainer_state.json").read_text())
    rates = [entry["learning_rate"] for entry in state["log_history"] if "learning_rate" in entry]
    skipped = sum(1 for rate in rates if rate == rates[0])
    assert skipped >= 2, "no step overflowed: the test shows nothing"
    assert rates[-1] < rates[0]
    weights = torch.cat([p.flatten() for p in ShortCutBart.from_pretrained(output).parameters()])
    assert torch.isfinite(weights).all()


def test_compiling_does_not_recompile_for_every_length(tmp_path):
    from torch._dynamo.utils import counters

    tiny_bart(tmp_path, decoder_layers=3, **SIZE)
    model = ShortCutBart.from_pretrained(tmp_path).cuda().train()
    freeze(model, True, True)
    counters.clear()
    compile_layers(model)
    for length in range(8, 64, 8):
        ids = torch.randint(5, 300, (8, length), device="cuda")
        ids[:, -1] = 2
        states = torch.randn(8, length, SIZE["d_model"], device="cuda", dtype=torch.bfloat16)
        with torch.autocast("cuda", dtype=torch.bfloat16):
            model(ids, torch.ones_like(ids), states).float().sum().backward()
    print("compiled graphs:", counters["stats"]["unique_graphs"], "breaks:", sum(counters["graph_break"].values()))
    assert sum(counters["graph_break"].values()) == 0
    assert counters["stats"]["unique_graphs"] <= 2  # inner layers, last layer


@pytest.mark.parametrize("precision", ["--bf16", "--no_bf16"])
def test_a_resumed_run_is_the_interrupted_one_bit_for_bit(folder, precision):
    whole, _ = train(folder, f"whole{precision}", precision, "--full_determinism")
    part = folder / f"part{precision}"
    shutil.copytree(whole, part)
    (part / "model.safetensors").unlink()
    for checkpoint in part.glob("checkpoint-*"):
        if checkpoint.name != "checkpoint-12":
            shutil.rmtree(checkpoint)
    shutil.rmtree(folder / "cache")  # rebuilt, and the bits stay
    resumed, errors = train(folder, part.name, precision, "--full_determinism", "--resume_from_checkpoint", "true")
    assert "resuming from checkpoint-12" in errors
    assert (resumed / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()
    assert losses(resumed) == losses(whole)


def test_the_cache_changes_no_result(folder):
    """Without dropout, so that both see the same draws: none."""
    flags = ("--bf16", "--dropout", 0, "--attention_dropout", 0, "--classifier_dropout", 0)
    with_cache, log = train(folder, "cached", *flags, "--cache_encoder_outputs", "true")
    without, _ = train(folder, "uncached", *flags, "--cache_encoder_outputs", "false")
    assert "encoder cache" in log
    assert losses(with_cache) == pytest.approx(losses(without), rel=2e-2)
