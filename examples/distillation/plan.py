"""Which runs answer which question about distillation, and the command lines of each.

A setting is a student: which of the teacher's encoder layers it keeps, how many decoder layers, what it learns from,
and for how long. A fitted encoder is a run of its own (`FITTED`), which every two-stage student of it starts from. A
folder's name says everything that tells a run from the others.
"""

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from distilbart_mnli.model.kept_layers import select_layers
from examples.common import results

TEACHER, COPIED = "teacher", "copied"
LABELS, LOGITS, BOTH = "labels", "logits", "labels and logits"
FITTED, TWO_STAGES = "encoder fitted", "encoder fitted, then logits"
COSINE = "encoder fitted by cosine"

WEIGHTS = {LABELS: "0", LOGITS: "1", BOTH: "0.5", TWO_STAGES: "1"}
"""The teacher's share of the loss."""


@dataclass(frozen=True)
class Setting:
    """A row of a table.

    Args:
        encoder: the teacher's layers that the student keeps; all of them: its encoder is frozen.
        decoder: how many decoder layers.
        rows: training rows; 0: evaluated as it is.
        fit_epochs: passes in which the encoder is fitted.
        epochs: passes in which the rest, or everything, is trained.
    """

    encoder: tuple[int, ...]
    decoder: int
    how: str
    rows: int = 0
    fit_epochs: int = 0
    epochs: int = 0
    temperature: float = 1.0
    whole_encoder: bool = False

    @property
    def student(self) -> str:
        return f"{len(self.encoder)}-{self.decoder}"

    @property
    def copied(self) -> str:
        """Folder of the copied student, below the output folder."""
        return f"students/{'.'.join(map(str, self.encoder))}-{self.decoder}"

    def fit(self) -> "Setting":
        """The run whose encoder a two-stage student has."""
        return dataclasses.replace(self, decoder=1, how=FITTED, epochs=0, temperature=1.0)

    def folder(self, seed: object) -> str:
        """Of the run, below the output folder."""
        parts = [".".join(map(str, self.encoder)), str(self.decoder), self.how.replace(",", "").replace(" ", "_")]
        if self.rows:
            parts += [str(self.rows), *(f"{passes}" for passes in (self.fit_epochs, self.epochs) if passes)]
            parts += [*([f"T{self.temperature:g}"] if self.temperature != 1 else []), f"seed{seed}"]
        return "runs/" + "-".join(parts)

    def start(self, seed: object) -> str:
        """Folder of the model that the run starts from, below the output folder; empty for the teacher."""
        if self.how == TEACHER:
            return ""
        if self.how != TWO_STAGES:
            return self.copied
        fitted = self.fit().folder(seed)
        return fitted if self.decoder == 1 else f"students/{fitted.removeprefix('runs/')}-{self.decoder}"

    def results(self, output_dir: Path, seed: int) -> dict[str, Any]:
        """all_results.json of its run with this seed; empty where that is not whole."""
        trained = ["train_runtime"] if self.rows else []
        return results(output_dir / self.folder(seed), "eval_accuracy", "eval_accuracy_mm", "eval_samples", *trained)

    def command(self, seed: object) -> list[str]:
        """The run's words, with $TEACHER, $DATA_DIR and $OUTPUT_DIR where a shell would put in the folders."""
        start = self.start(seed)
        words = ["python", "run_glue.py"]
        if self.how == COSINE:
            words = ["python", "-m", "examples.distillation.cosine"]
        words += [f"args/questions/{self._recipe()}.json"]
        words += ["--model_name_or_path", f"$OUTPUT_DIR/{start}" if start else "$TEACHER"]
        if self.rows:
            words += ["--max_train_samples", str(self.rows), "--num_train_epochs", str(self.epochs or self.fit_epochs)]
            words += ["--seed", str(seed)]
        if self.how in (FITTED, COSINE):
            words += ["--teacher_model_name_or_path", "$TEACHER"]
        elif self.how != LABELS and self.rows:
            words += ["--teacher_model_name_or_path", "$TEACHER", "--distillation_weight", WEIGHTS[self.how]]
            words += ["--distillation_temperature", f"{self.temperature:g}"]
        if self.rows and self.how in (LABELS, LOGITS, BOTH) and not self.whole_encoder:
            words += ["--freeze_encoder", "false"]
        words += ["--data_dir", "$DATA_DIR", "--encoder_cache_dir", "$OUTPUT_DIR/encoder_cache"]
        return [*words, "--output_dir", f"$OUTPUT_DIR/{self.folder(seed)}"]

    def _recipe(self) -> str:
        if not self.rows:
            return "evaluate"
        return "fit" if self.how in (FITTED, COSINE) else "student"

    def before(self, seed: int) -> Iterator[tuple[list[str], str]]:
        """(words, folder below the output folder of the model that they make): what must be there first, in order."""
        if self.how == TEACHER:
            return
        teacher = ["python", "create_student.py", "--teacher_model_name_or_path", "$TEACHER"]
        kept = ["--encoder_layer_ids", ",".join(map(str, self.encoder))]
        if self.how != TWO_STAGES:
            layers = ["--student_decoder_layers", str(self.decoder)]
            yield [*teacher, *kept, *layers, "--save_path", f"$OUTPUT_DIR/{self.copied}"], self.copied
            return
        fit, start = self.fit(), self.start(seed)
        yield from fit.before(seed)
        yield fit.command(seed), fit.folder(seed)
        if start != fit.folder(seed):
            layers = [
                "--encoder_from",
                f"$OUTPUT_DIR/{fit.folder(seed)}",
                "--student_decoder_layers",
                str(self.decoder),
            ]
            yield [*teacher, *layers, "--save_path", f"$OUTPUT_DIR/{start}"], start


@dataclass(frozen=True)
class Question:
    title: str
    rows: list[tuple[str, Setting, Sequence[int]]]
    """(variant, setting, seeds)"""


def questions(encoder_layers: int, rows: int, sweep_rows: int, seeds: Sequence[int]) -> list[Question]:
    """All questions; those that share a setting share its runs, and the first questions' runs are made first.

    Args:
        encoder_layers: the teacher's.
        rows: training rows of the students whose scores are claimed.
        sweep_rows: of those that are compared with each other alone.
        seeds: of order and dropout; the first one alone where it is not said otherwise.
    """
    one, every = tuple(range(encoder_layers)), tuple(seeds)
    first = every[:1]

    def kept(count: int) -> tuple[int, ...]:
        return tuple(select_layers(encoder_layers, count, "encoder"))

    def two_stages(count: int, decoder: int = 1, fit_epochs: int = 4, epochs: int = 2, **more: Any) -> Setting:
        return Setting(kept(count), decoder, TWO_STAGES, rows, fit_epochs, epochs, **more)

    half = encoder_layers // 2
    ours = Setting(kept(half), 1, LABELS, rows, epochs=2)
    main = two_stages(half)

    def swept(encoder: tuple[int, ...], how: str, **more: Any) -> Setting:
        return Setting(encoder, 1, how, sweep_rows, 2, **more)

    def other(setting: Setting, how: str) -> Setting:
        return dataclasses.replace(setting, how=how)

    by_student: list[tuple[str, Setting, Sequence[int]]] = [
        ("teacher, as it is", Setting(one, encoder_layers, TEACHER), first),
        ("copied", Setting(kept(half), 1, COPIED), first),
        ("encoder fitted, decoder as copied", main.fit(), every),
        ("encoder fitted, then logits", main, every),
        ("labels", ours, every),
        ("logits", other(ours, LOGITS), first),
        ("labels and logits", other(ours, BOTH), first),
    ]
    whole = Setting(one, 1, LABELS, rows, epochs=2, whole_encoder=True)
    others: list[tuple[str, Setting, Sequence[int]]] = [
        *((how, other(whole, how), first) for how in (LABELS, LOGITS, BOTH)),
        ("encoder fitted, then logits", two_stages(half, 3), first),
        ("labels", dataclasses.replace(ours, decoder=3), first),
        ("logits", dataclasses.replace(ours, decoder=3, how=LOGITS), first),
        ("encoder fitted, then logits", two_stages(2), first),
        ("labels", dataclasses.replace(ours, encoder=kept(2)), first),
        ("logits", dataclasses.replace(ours, encoder=kept(2), how=LOGITS), first),
    ]
    temperatures = [(f"T {t:g}", dataclasses.replace(main, temperature=t), first) for t in (1.0, 2.0, 4.0)]
    epochs = [(2, 2), (4, 2), (4, 4), (8, 2)]
    return [
        Question(f"What a {half}-1 student learns from", by_student),
        Question("Temperature", temperatures),
        Question("Epochs of each stage", [(f"{a} + {b}", two_stages(half, 1, a, b), first) for a, b in epochs]),
        Question(
            "Which encoder layers to keep, and what is fitted",
            [
                ("alternating layers", swept(kept(half), FITTED), first),
                ("first layers", swept(one[:half], FITTED), first),
                ("last layers", swept(one[-half:], FITTED), first),
                ("alternating layers, cosine", swept(kept(half), COSINE), first),
            ],
        ),
        Question("Other students", others),
    ]
