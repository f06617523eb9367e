"""This training as a stage of the model's history (model/history.py): what was learnt, from whom, by which loss.

history_after(run)              # before the training: what is known of it
history_after(run, state)       # in a checkpoint, and after it: rows, epochs and steps too
"""

from transformers import BartConfig

from distilbart_mnli.model.history import LABELS, LOGITS, STATES, Stage, with_stage
from distilbart_mnli.model.source import Source
from distilbart_mnli.options.fields import Arguments
from distilbart_mnli.train.run import Run
from distilbart_mnli.train.state import TrainState


def history_after(run: Run, state: TrainState | None = None) -> list[Stage] | None:
    """The history of the model that this run trains, with this training.

    None where nothing was known of it before, and no teacher is in this training: then it says nothing.
    """
    before = getattr(run.model.config, "distillation", None)
    stage = _learnt(run.args, run.task.is_regression)
    if before is None and stage["stage"] == LABELS:
        return None
    stage["trained"] = "encoder" if run.args.fit_encoder else "decoder" if run.args.freeze_encoder else "all"
    if state is not None:
        stage |= {
            "rows": state.train_examples,
            "transfer_rows": state.transfer_examples,
            "epochs": round(state.epoch, 4),
            "steps": state.progress.step,
            "run": state.progress.run_id,
        }
    return with_stage(before, stage)


def config_after(run: Run, state: TrainState | None = None) -> BartConfig:
    """The model's configuration with that history; a copy."""
    config = BartConfig.from_dict(run.model.config.to_dict())
    if (history := history_after(run, state)) is not None:
        config.distillation = history
    return config


def _learnt(args: Arguments, is_regression: bool) -> Stage:
    """As objective.py chooses the loss."""
    weight, name = args.distillation_weight, args.teacher_model_name_or_path
    if name is None or not (args.fit_encoder or weight):
        return {"stage": LABELS, "loss": "squared error" if is_regression else "cross-entropy"}
    teacher = Source(name).public_name
    if args.fit_encoder:
        return {"stage": STATES, "teacher": teacher, "loss": "mean squared error"}
    if is_regression:
        return {"stage": LOGITS, "teacher": teacher, "loss": "squared error", "weight": weight}
    temperature = args.distillation_temperature
    return {
        "stage": LOGITS,
        "teacher": teacher,
        "loss": "KL divergence",
        "weight": weight,
        "temperature": temperature,
    }
