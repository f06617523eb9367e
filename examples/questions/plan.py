"""Which runs answer which question, and the command line of each.

A run is one student, trained and evaluated once; several questions may share it. A row of the table is one setting,
over all of its seeds. A folder's name says everything that tells a run from the others, so changed sizes never meet
old files.
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from distilbart_mnli.model.kept_layers import select_layers
from examples.common import results

COPIED, FIRST, FRESH, TEACHER = "copied", "first", "fresh", "teacher"
FROZEN, DROPOUT, TRAINED = "", "dropout", "trained"
ENCODER_FLAGS = {FROZEN: [], DROPOUT: ["--frozen_encoder_dropout"], TRAINED: ["--freeze_encoder", "false"]}


@dataclass(frozen=True)
class Plan:
    """What is measured with.

    Args:
        encoder_layers, teacher_decoder_layers: the teacher's.
        decoder_layers: of the students; those in `main_layers` get every seed, the others the first one.
        train_rows: the first so many training rows, the same for all runs, so that any two rows can be compared.
        seeds: of dropout, the order of the data and, where there are any, new layers.
    """

    encoder_layers: int
    teacher_decoder_layers: int
    decoder_layers: Sequence[int] = (1, 2, 3, 4)
    main_layers: Sequence[int] = (1, 3)
    train_rows: int = 4000
    epochs: int = 2
    seeds: Sequence[int] = (1, 2, 3)

    def seeds_for(self, setting: "Setting") -> list[int]:
        """One, if nothing is trained: an evaluation depends on no seed."""
        every = setting.rows and setting.layers in self.main_layers
        return list(self.seeds) if every else list(self.seeds[:1])


@dataclass(frozen=True)
class Setting:
    """A row: `rows` training rows (0: evaluated as it is), `epochs` passes, and what the encoder does."""

    student: str  # "6-3"
    layers: int
    kind: str
    rows: int = 0
    epochs: int = 0
    encoder: str = FROZEN

    def model(self, seed: object) -> str:
        if self.kind == TEACHER:
            return "$TEACHER"
        return f"$OUTPUT_DIR/students/{self.student}-{self.kind}" + (f"-seed{seed}" if self.kind == FRESH else "")

    def folder(self, seed: object) -> str:
        """Below the output folder."""
        if not self.rows:
            return f"runs/{self.student}-{self.kind}"
        parts = [self.student, self.kind, f"{self.rows}x{self.epochs}", self.encoder, f"seed{seed}"]
        return "runs/" + "-".join(filter(None, parts))

    def results(self, output_dir: Path, seed: int) -> dict[str, Any]:
        """all_results.json of its run with this seed; empty where that is not whole."""
        trained = ["train_runtime"] if self.rows else []
        return results(output_dir / self.folder(seed), "eval_accuracy", "eval_accuracy_mm", "eval_samples", *trained)

    def command(self, seed: object) -> list[str]:
        """Words, with $TEACHER, $DATA_DIR and $OUTPUT_DIR where a shell would put in the folders."""
        recipe = "student" if self.rows else "evaluate"
        words = ["python", "run_glue.py", f"args/questions/{recipe}.json", "--model_name_or_path", self.model(seed)]
        if self.rows:
            words += ["--max_train_samples", str(self.rows), "--num_train_epochs", str(self.epochs)]
            words += [*ENCODER_FLAGS[self.encoder], "--seed", str(seed)]
        words += ["--data_dir", "$DATA_DIR", "--encoder_cache_dir", "$OUTPUT_DIR/encoder_cache"]
        return [*words, "--output_dir", f"$OUTPUT_DIR/{self.folder(seed)}"]

    def commands(self, seeds: Sequence[int]) -> str:
        """One line for a shell."""
        if len(seeds) == 1 or not self.rows:
            return " ".join(self.command(seeds[0]))
        return f"for seed in {' '.join(map(str, seeds))}; do {' '.join(self.command('$seed'))}; done"


@dataclass(frozen=True)
class Question:
    title: str
    rows: list[tuple[str, Setting]]  # (variant, setting)


def first_differ(plan: Plan, layers: int) -> bool:
    """Whether the first `layers` decoder layers are other ones than create_student.py copies."""
    return select_layers(plan.teacher_decoder_layers, layers, "decoder") != list(range(layers))


def questions(plan: Plan) -> list[Question]:
    """All questions with their rows; those that share a setting share its runs."""

    def student(layers: int, kind: str = COPIED, rows: int = 0, epochs: int = plan.epochs, encoder: str = FROZEN):
        return Setting(f"{plan.encoder_layers}-{layers}", layers, kind, rows, epochs if rows else 0, encoder)

    teacher = Setting(f"{plan.encoder_layers}-{plan.teacher_decoder_layers}", plan.teacher_decoder_layers, TEACHER)
    before_after, fresh, first, dropout, trained, epochs = ([] for _ in range(6))
    before_after.append(("teacher, as it is", teacher))
    many = plan.train_rows
    for layers in plan.decoder_layers:
        tuned = student(layers, rows=many)
        before_after += [("copied, not fine-tuned", student(layers)), ("copied, fine-tuned", tuned)]
        fresh += [("copied layers", tuned), ("freshly initialised layers", student(layers, FRESH, many))]
        if first_differ(plan, layers):
            first += [
                ("alternating layers, not fine-tuned", student(layers)),
                ("first layers, not fine-tuned", student(layers, FIRST)),
                ("alternating layers, fine-tuned", tuned),
                ("first layers, fine-tuned", student(layers, FIRST, many)),
            ]
    for layers in plan.main_layers:
        tuned = student(layers, rows=many)
        with_dropout = student(layers, rows=many, encoder=DROPOUT)
        dropout += [("frozen encoder, no dropout", tuned), ("frozen encoder, dropout (2020)", with_dropout)]
        trained += [("frozen encoder", tuned), ("trained encoder", student(layers, rows=many, encoder=TRAINED))]
        epochs += [("1 epoch", student(layers, rows=many, epochs=1)), ("2 epochs", tuned)]
    return [
        Question("A student before and after fine-tuning", before_after),
        Question("Copied layers, or the same number freshly initialised", fresh),
        Question("Alternating layers, or the first ones", first),
        Question("One epoch, or two", epochs),
        Question("A frozen encoder without dropout, or with it as in 2020", dropout),
        Question("A frozen encoder, or a trained one", trained),
    ]


def runs(plan: Plan) -> list[tuple[Setting, int]]:
    """Every (setting, seed) once, so ordered that a plan which is cut short has something for every question.

    First the main students with the first seed, before training and after; then the others; then the other seeds,
    those without an encoder cache last.
    """
    settings = dict.fromkeys(setting for question in questions(plan) for _, setting in question.rows)
    found = [(setting, seed) for setting in settings for seed in plan.seeds_for(setting)]

    def order(run: tuple[Setting, int]) -> tuple[bool, bool, bool]:
        setting, seed = run
        later = seed != plan.seeds[0]
        return later, setting.layers not in plan.main_layers, setting.encoder != FROZEN if later else setting.rows > 0

    return sorted(found, key=order)


def student_command(plan: Plan, setting: Setting, seed: int) -> list[str]:
    """How the model of a run is made; words as in Setting.command, none for the teacher."""
    if setting.kind == TEACHER:
        return []
    path = setting.model(seed)
    if setting.kind == FRESH:
        copied = dataclasses.replace(setting, kind=COPIED).model(seed)
        words = ["python", "-m", "examples.questions.fresh_student", "--student", copied]
        return [*words, "--seed", str(seed), "--save_path", path]
    words = ["python", "create_student.py", "--teacher_model_name_or_path", "$TEACHER"]
    words += ["--student_encoder_layers", str(plan.encoder_layers)]
    if setting.kind == FIRST:
        words += ["--decoder_layer_ids", ",".join(map(str, range(setting.layers)))]
    else:
        words += ["--student_decoder_layers", str(setting.layers)]
    return [*words, "--save_path", path]
