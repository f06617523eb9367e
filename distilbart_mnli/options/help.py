"""--help of run_glue.py: what matters on one screen; --help_all: every option in a line of its own."""

import textwrap

from distilbart_mnli.options.fields import GROUPS, OPTIONS, Arguments, help_texts

USAGE = """\
usage: run_glue.py [FILE.json | FILE.yaml] [--option value ...]

Train, evaluate and publish a BART classifier on a GLUE task or on files of your own. A file of options, flags, or
both; flags win. True or false: --x, --x false, --no_x.

  python run_glue.py args.json
  python run_glue.py args/distilbart-mnli-12-3.json --learning_rate 1e-5 --output_dir runs/12-3
  accelerate launch --config_file accelerate_configs/multi_gpu.yaml run_glue.py args.json
"""
MATTER = (
    "model_name_or_path",
    "task_name",
    "data_dir",
    "output_dir",
    "do_train",
    "do_eval",
    "num_train_epochs",
    "learning_rate",
    "per_device_train_batch_size",
    "freeze_encoder",
    "resume_from_checkpoint",
    "push_to_hub",
)
"""What a first run needs, in the order in which it is asked."""


def help_text() -> str:
    """What matters with its meaning, the rest by name."""
    lines = [USAGE, *(_line(name) for name in MATTER), "", "and, each in one line with --help_all:", ""]
    for title, names in groups().items():
        rest = " ".join(name for name in names if name not in MATTER)
        lines += textwrap.wrap(rest, 116, initial_indent=f"  {title}: ", subsequent_indent="    ")
    return "\n".join(
        [*lines, "", "Names and defaults are transformers' TrainingArguments'; docs/options.md tells more."]
    )


def help_all() -> str:
    """Every option by group."""
    lines = [USAGE]
    for title, names in groups().items():
        lines += [f"{title}:", *map(_line, names), ""]
    return "\n".join(lines).rstrip()


def groups() -> dict[str, list[str]]:
    """Title -> its options."""
    found: dict[str, list[str]] = {}
    for name in OPTIONS:
        if name in GROUPS:
            found[GROUPS[name]] = members = []
        members.append(name)
    return found


def _line(name: str) -> str:
    option, default = OPTIONS[name], getattr(Arguments(), name)
    choices = f" {option.expected.capitalize()}." if option.expected.startswith("one of") else ""
    shown = f"{default:g}" if isinstance(default, float) else str(default)
    return f"  --{name:<27} {help_texts()[name]}{choices}" + (f" [{shown}]" if default not in (None, False) else "")
