"""The model card's account of the training: the recipe, what it ran on, the curves, the command."""

import shlex
from collections.abc import Callable
from typing import Any

from distilbart_mnli.public_text import public_command
from distilbart_mnli.publish.card_facts import Facts, is_number
from distilbart_mnli.publish.card_format import cell, data_name, number, option, plural, table


def training(facts: Facts, picture: str | None) -> str:
    """The recipe, what it ran on, the curves, the command."""
    lines: list[str] = []
    rows = recipe_rows(facts) if facts.trained else []
    if rows:
        lines += [table(("Recipe", "Value"), rows), ""]
    versions = facts.run.get("versions") or {}
    if versions:
        lines += ["Versions: " + ", ".join(f"{cell(key)} {cell(value)}" for key, value in versions.items()) + ".", ""]
    if picture:
        lines += [f"![Loss and scores over the optimizer steps of the training]({picture})", ""]
    if facts.run.get("command"):
        what = "trained this model" if facts.trained else "made these results"
        command = on_lines(public_command(str(facts.run["command"]))).replace("```", "")
        lines += [f"The command that {what} (options that are not in it: `training_args.json`):", ""]
        lines += [f"```bash\n{command}\n```", ""]
    urls = facts.run.get("tracker_urls") or {}
    links = [
        f"[{cell(tracker)}]({url})" for tracker, url in urls.items() if str(url).startswith(("https://", "http://"))
    ]
    if links:
        lines += ["The run's log: " + ", ".join(links) + ".", ""]
    return "\n".join(["## Training" if facts.trained else "## How it was run", "", *lines]) if lines else ""


def on_lines(command: str) -> str:
    """A shell command with each --option on a line of its own; one that is short stays on one line."""
    try:
        words = [shlex.quote(word) for word in shlex.split(command)]
    except ValueError:
        return command
    if len(command) < 90:
        return command
    return "".join((" \\\n    " if word.startswith("--") else " ") + word for word in words).lstrip()


def recipe_rows(facts: Facts) -> list[tuple[str, str]]:
    """(name, value) of everything that shaped the training and is known."""
    given = facts.arguments if facts.arguments.get("do_train") else {}
    run, done = facts.run, facts.results
    rows: list[tuple[str, str]] = [("Data", data_name(facts))]

    def add(name: str, value: Any, unit: str = "", show: Callable[[float], str] = number) -> None:
        if is_number(value):
            rows.append((name, show(value) + unit))

    train_rows = facts.task.train.rows if facts.task and facts.task.train and facts.is_glue_data else 0
    is_part = is_number(facts.train_examples) and facts.train_examples < train_rows
    add("Training examples", facts.train_examples, f" of {number(train_rows)}" if is_part else "")
    if is_number(given.get("max_steps")) and given["max_steps"] > 0:
        add("Optimizer steps", given["max_steps"])
    else:
        add("Epochs", given.get("num_train_epochs"))
        add("Optimizer steps", facts.state.get("global_step") or None)
    add("Batch (examples in one optimizer step)", run.get("effective_batch_size"))
    if is_number(given.get("learning_rate")):
        rows.append(("Optimizer", _optimizer(given)))
    if given.get("lr_scheduler_type"):
        rows.append(("Schedule", _schedule(given)))
    add("Label smoothing", given.get("label_smoothing_factor") or None, show=option)
    frozen = [
        words for key, words in (("freeze_encoder", "encoder"), ("freeze_embeds", "embeddings")) if given.get(key)
    ]
    if frozen:
        dropout = "with" if given.get("frozen_encoder_dropout") else "without"
        rows.append(
            ("Frozen", ", ".join(frozen) + (f"; the encoder ran {dropout} dropout" if "encoder" in frozen else ""))
        )
    for key in ("dropout", "attention_dropout", "activation_dropout", "classifier_dropout"):
        add(key.replace("_", " ").capitalize(), given.get(key), show=option)
    add("Longest input", given.get("max_seq_length"), " tokens")
    precision = {"no": "float32", "": None}.get(str(run.get("mixed_precision") or ""), run.get("mixed_precision"))
    if precision:
        rows.append(("Precision", cell(precision)))
    if given.get("load_best_model_at_end"):
        rows.append(("Checkpoint kept", f"the best by {cell(given.get('metric_for_best_model') or 'loss')}"))
    add("Seed", given.get("seed"), show=option)
    if is_number(run.get("trainable_parameters")) and is_number(run.get("total_parameters")):
        trained, total = number(run["trainable_parameters"]), number(run["total_parameters"])
        rows.append(("Parameters", f"{total}, of which {trained} were trained"))
    add("Training loss, mean", done.get("train_loss"))
    if is_number(done.get("train_runtime")):
        rows.append(("Time", f"{number(done['train_runtime'], 0)} seconds"))
    add("Training examples a second", done.get("train_samples_per_second"))
    if run.get("hardware"):
        # Accelerate's word for one process says nothing to a reader.
        rows.append(("Hardware", cell(run["hardware"]).replace(", distributed type NO", "")))
    else:
        add("Processes", run.get("num_processes"))
    if run.get("date"):
        rows.append(("Date", cell(run["date"])))
    return rows


def _optimizer(given: dict[str, Any]) -> str:
    parts = [f"AdamW, peak learning rate {option(given['learning_rate'])}"]
    if is_number(given.get("adam_beta1")) and is_number(given.get("adam_beta2")):
        parts.append(f"betas {option(given['adam_beta1'])} and {option(given['adam_beta2'])}")
    if is_number(given.get("adam_epsilon")):
        parts.append(f"epsilon {option(given['adam_epsilon'])}")
    if is_number(given.get("weight_decay")):
        parts.append(f"weight decay {option(given['weight_decay'])}")
    if is_number(given.get("max_grad_norm")) and given["max_grad_norm"]:
        parts.append(f"gradients clipped to norm {option(given['max_grad_norm'])}")
    return ", ".join(parts)


def _schedule(given: dict[str, Any]) -> str:
    warmup = given.get("warmup_steps") or 0
    if not is_number(warmup) or not warmup:
        return cell(given["lr_scheduler_type"])
    share = f"over a share of {option(warmup)} of all steps" if warmup < 1 else f"over {plural(warmup, 'step')}"
    return f"{cell(given['lr_scheduler_type'])}, warm-up {share}"
