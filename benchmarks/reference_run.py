"""A whole fine-tuning with stock transformers, for whole_table.py: read, tokenise, train, evaluate, save. Nothing is
imported from distilbart_mnli.

    python -m benchmarks.reference_run --variant a --model_name_or_path student-12-6 --data_dir glue_data/MNLI \\
        --num_train_epochs 2 --output_dir out

(a) the recipe of 2020 and (b) run_glue_no_trainer.py, as in references.py. After every epoch both evaluation sets are
evaluated and the model is saved with its optimizer, and the model once more at the end.
"""

import argparse
import json
import time
from pathlib import Path

import torch
import transformers
from transformers import AutoTokenizer

from benchmarks.references import collate, load_student, make_optimizer, train_step

GLUE_TO_MODEL = {"entailment": 2, "neutral": 1, "contradiction": 0}


def read(path: Path, tokenizer: transformers.PreTrainedTokenizerBase) -> tuple[list[torch.Tensor], torch.Tensor]:
    head, *rows = path.read_text(encoding="utf-8").rstrip("\n").split("\n")
    first, second, label = (head.split("\t").index(name) for name in ("sentence1", "sentence2", "gold_label"))
    cells = [row.split("\t") for row in rows]
    texts = ([row[first] for row in cells], [row[second] for row in cells])
    ids = tokenizer(*texts, truncation=True, max_length=128)["input_ids"]
    return [torch.tensor(row) for row in ids], torch.tensor([GLUE_TO_MODEL[row[label]] for row in cells])


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--variant", choices=["a", "b"], required=True)
    parser.add_argument("--model_name_or_path", required=True)
    parser.add_argument("--data_dir", type=Path, required=True)
    parser.add_argument("--output_dir", type=Path, required=True)
    parser.add_argument("--num_train_epochs", type=int, default=2)
    parser.add_argument("--batch_size", type=int, default=32)
    parser.add_argument("--gradient_accumulation_steps", type=int, default=4)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--bf16", action="store_true")
    options = parser.parse_args()
    transformers.utils.logging.disable_progress_bar()
    torch.set_float32_matmul_precision("high")
    torch.manual_seed(42)
    dtype = torch.bfloat16 if options.bf16 else torch.float32
    frozen = options.variant == "a"
    length, max_grad_norm = (128, 1.0) if frozen else (None, None)

    tokenizer = AutoTokenizer.from_pretrained(options.model_name_or_path)
    model = load_student(Path(options.model_name_or_path), options.device, frozen)
    optimizer, scheduler = make_optimizer(model)
    pad = model.config.pad_token_id
    rows, labels = read(options.data_dir / "train.tsv", tokenizer)
    evaluation = [read(options.data_dir / f"dev_{name}.tsv", tokenizer) for name in ("matched", "mismatched")]

    def batches(rows, labels, order):
        for batch in order.split(options.batch_size):
            yield collate([rows[i] for i in batch.tolist()], labels[batch], pad, length, options.device)

    def evaluate() -> list[float]:
        model.eval()
        scores = []
        for rows, labels in evaluation:
            right = torch.zeros((), device=options.device)
            for batch in batches(rows, labels, torch.arange(len(rows))):
                with torch.no_grad(), torch.autocast(options.device, torch.bfloat16, enabled=options.bf16):
                    logits = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
                right += (logits.argmax(-1) == batch["labels"]).sum()
            scores.append(float(right) / len(rows))
        model.train()
        return scores

    started, step_rows = time.perf_counter(), options.batch_size * options.gradient_accumulation_steps
    for epoch in range(options.num_train_epochs):
        for step in torch.randperm(len(rows)).split(step_rows):
            stream = batches(rows, labels, step)
            count = -(-len(step) // options.batch_size)
            loss = train_step(model, optimizer, scheduler, stream, count, dtype, max_grad_norm)
        print(f"epoch {epoch + 1}: loss {float(loss):.4f}, accuracy {evaluate()}", flush=True)
        model.save_pretrained(options.output_dir / f"checkpoint-{epoch + 1}")
        torch.save(optimizer.state_dict(), options.output_dir / f"checkpoint-{epoch + 1}" / "optimizer.pt")
    model.save_pretrained(options.output_dir)
    tokenizer.save_pretrained(options.output_dir)
    results = {"train_and_evaluate_seconds": time.perf_counter() - started, "train_samples": len(rows)}
    (options.output_dir / "all_results.json").write_text(json.dumps(results) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
