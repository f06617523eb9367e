"""What a finished run's files say about it: the facts that the model card is written from.

    facts = read_facts(Path("distilbart-mnli-12-1"))

Every file may be missing: a folder that was only evaluated has no config.json, a run without an evaluation no scores.
A fact that is not known is None and the card leaves its line out; nothing is guessed.
"""

import json
import math
import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeGuard

from distilbart_mnli.data.splits import HUB_DATASET
from distilbart_mnli.data.tasks import TASKS, Source, Task
from distilbart_mnli.errors import InputError
from distilbart_mnli.public_text import last_part

# Key in all_results.json without eval_ -> (name for a reader, id on hf.co/metrics, shown in percent)
METRIC_NAMES = {
    "accuracy": ("Accuracy", "accuracy", True),
    "f1": ("F1", "f1", True),
    "macro_f1": ("Macro F1", "f1", True),
    "matthews_correlation": ("Matthews correlation", "matthews_correlation", False),
    "pearson": ("Pearson correlation", "pearsonr", False),
    "spearmanr": ("Spearman correlation", "spearmanr", False),
}

# Accuracy in percent (matched, mismatched) by decoder layers, with all 12 encoder layers of facebook/bart-large-mnli:
# the table in the README of github.com/patil-suraj/distillbart-mnli (2020), digits as they stand there.
REPORTED_2020 = {
    1: ("87.08", "87.5"),
    3: ("88.1", "88.19"),
    6: ("89.19", "89.01"),
    9: ("89.56", "89.52"),
}
TEACHER_2020 = "facebook/bart-large-mnli"
SETS_2020 = TASKS["mnli"].evaluation
REPORTED_2020_TEACHER = ("89.9", "90.01")


@dataclass(frozen=True)
class Score:
    """One metric on one evaluation set."""

    metric: str
    """Key of METRIC_NAMES."""
    value: float
    examples: int | None
    source: Source | None
    """The set in the table of tasks; None: the user's own data."""

    @property
    def set_name(self) -> str:
        """ "MNLI, mismatched"; "CoLA"."""
        if self.source is None:
            return "validation"
        name = next(task.folder for task in TASKS.values() if self.source in task.evaluation)
        kind = (self.source.hub or ("", ""))[1].removeprefix("validation").strip("_")
        return f"{name}, {kind}" if kind else name

    @property
    def is_part(self) -> bool:
        """On fewer examples than GLUE's set has."""
        return bool(self.source and self.source.rows and self.examples and self.examples < self.source.rows)


@dataclass(frozen=True)
class Facts:
    """The files of one output_dir, parsed, and what follows from them. A file that is missing is an empty dict."""

    name: str
    """The folder's name, or the repository's on the Hub: "user/name"."""
    config: dict[str, Any]
    arguments: dict[str, Any]
    results: dict[str, Any]
    state: dict[str, Any]
    tradeoffs: Any
    has_model: bool

    @property
    def run(self) -> dict[str, Any]:
        return self.state.get("run") or {}

    @property
    def title(self) -> str:
        return self.name.split("/")[-1]

    # -- the model ----------------------------------------------------------------------------------------------------

    @cached_property
    def labels(self) -> list[str]:
        """Label names in the model's order."""
        names = self.config.get("id2label") or {}
        return [str(names[key]) for key in sorted(names, key=int)]

    def label_id(self, start: str) -> int | None:
        """Id of the model's label whose name starts with `start`, as the zero-shot pipeline looks for it."""
        return _label_id(self.labels, start)

    @property
    def is_nli(self) -> bool:
        """Three labels, entailment and contradiction among them: a model for the zero-shot pipeline.

        A folder without a model goes by its task.
        """
        labels = self.labels or list(self.task.label_names if self.task else ())
        return len(labels) == 3 and None not in (_label_id(labels, "entail"), _label_id(labels, "contradict"))

    @property
    def teacher(self) -> str | None:
        """Hub id or folder name of the model whose layers were copied."""
        return _name(self.config.get("teacher_name_or_path"))

    @property
    def start(self) -> str | None:
        """Hub id or folder name of the model that was fine-tuned or evaluated."""
        return _name(self.arguments.get("model_name_or_path"))

    @property
    def base_model(self) -> str | None:
        """The teacher, else the model that was fine-tuned, if it is one of the Hub."""
        name = self.teacher or self.start
        return name if name and is_hub_id(name) and name != self.name else None

    def layer_ids(self, stack: str) -> list[int] | None:
        """The teacher's layers that `stack` (encoder, decoder) keeps."""
        return self.config.get(f"{stack}_layer_ids") or None

    # -- training -----------------------------------------------------------------------------------------------------

    @property
    def trained(self) -> bool:
        return bool(self.arguments.get("do_train")) or "train_loss" in self.results

    @property
    def from_scratch(self) -> bool:
        """Trained from new weights."""
        return self.trained and bool(self.arguments.get("config_name")) and not self.start

    @property
    def license(self) -> str | None:
        return self.run.get("license") or self.arguments.get("license") or None

    @property
    def license_name(self) -> str | None:
        """What the teacher's card calls a license that the Hub has no identifier for."""
        return self.run.get("license_name")

    @property
    def license_link(self) -> str | None:
        """Address of such a license's text. A file beside the teacher is not one beside the student."""
        link = self.run.get("license_link")
        if not link or re.match(r"https?://", link):
            return link or None
        return f"https://huggingface.co/{self.base_model}/blob/main/{link}" if self.base_model else None

    # -- data and scores ----------------------------------------------------------------------------------------------

    @cached_property
    def task(self) -> Task | None:
        """GLUE's task, or None for the user's own data."""
        given = self.run.get("task") or self.arguments.get("task_name") or ""
        plain = {re.sub(r"[^a-z0-9]", "", name): task for name, task in TASKS.items()}
        return plain.get(re.sub(r"[^a-z0-9]", "", str(given).lower()))

    @property
    def train_examples(self) -> int | None:
        return self.run.get("train_examples") or self.results.get("train_samples")

    @cached_property
    def is_glue_data(self) -> bool:
        """Whether this was GLUE's own data, so that a score may be filed under GLUE.

        data_dir may hold anything in a task's format (the quickstart's toy data is one). It counts as GLUE's where one
        of the sets that were read has GLUE's number of rows, or where each was cut to a number that was asked for.
        """
        if self.task is None:
            return False
        if self.arguments.get("data_dir") is None:
            return bool(self.arguments)
        train_rows = self.task.train.rows if self.task.train else 0
        counts = [(self.train_examples, train_rows, self.arguments.get("max_train_samples"))]
        limit = self.arguments.get("max_eval_samples")
        counts += [(examples, source.rows, limit) for source, examples in self._evaluated]
        known = [(examples, rows, limit) for examples, rows, limit in counts if examples]
        return any(examples == rows for examples, rows, _ in known) or (
            bool(known) and all(examples == limit for examples, _, limit in known)
        )

    @property
    def _evaluated(self) -> list[tuple[Source, int | None]]:
        if self.task is None:
            return []
        sources = {source.name: source for source in self.task.evaluation}
        return [(source, self.results.get("eval_samples" + _suffix(name))) for name, source in sources.items()]

    @cached_property
    def scores(self) -> list[Score]:
        """Final scores, set by set; only finite numbers."""
        sources: list[Source | None] = list(self.task.evaluation) if self.task else [None]
        scores = []
        for source in sources:
            suffixes = [_suffix(source.name) if source else ""]
            if len(sources) == 1 and suffixes != [""]:
                suffixes.append("")  # mnli-mm alone
            for metric in METRIC_NAMES:
                for suffix in suffixes:
                    value = self.results.get(f"eval_{metric}{suffix}")
                    if is_number(value):
                        examples = self.results.get(f"eval_samples{suffix}")
                        scores.append(Score(metric, value, examples, source))
                        break
        return scores

    @property
    def dataset(self) -> str | None:
        """Id of the data set on the Hub."""
        return HUB_DATASET if self.is_glue_data else None

    # -- 2020 ---------------------------------------------------------------------------------------------------------

    @property
    def reported_2020(self) -> tuple[str, str] | None:
        """Percent (matched, mismatched) in 2020 for a fine-tuned model of these layers; None: not reported."""
        if self.teacher != TEACHER_2020 or not self.trained or not self._comparable_with_2020:
            return None
        if self.config.get("encoder_layers") != 12:
            return None
        return REPORTED_2020.get(self.config.get("decoder_layers", 0))

    @property
    def reported_2020_teacher(self) -> tuple[str, str] | None:
        """The same for the teacher: beside its students, and beside a measurement of itself."""
        is_it = self.start == TEACHER_2020 and not self.trained
        return REPORTED_2020_TEACHER if self._comparable_with_2020 and (is_it or self.reported_2020) else None

    @property
    def is_student_without_figure(self) -> bool:
        """A fine-tuned student of 2020's teacher, of a size that nobody reported in 2020."""
        is_student = self.teacher == TEACHER_2020 and self.trained and self.layer_ids("decoder") is not None
        return is_student and self._comparable_with_2020 and self.reported_2020 is None

    @property
    def _comparable_with_2020(self) -> bool:
        return self.is_glue_data and any(score.source in SETS_2020 for score in self.scores)


def read_facts(output_dir: Path, hub_model_id: str | None = None) -> Facts:
    """Read what is there of config.json, training_args.json, all_results.json, trainer_state.json, tradeoffs.json.

    Raises:
        InputError: no such folder, or one of these files is not JSON.
    """
    folder = Path(output_dir)
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; a model card is written from the files of a finished run")
    arguments = _read_json(folder / "training_args.json")
    results = _read_json(folder / "all_results.json")
    if not results:
        for path in sorted(folder.glob("eval_results_*.txt")):
            results.update(_read_results(path))
    name = hub_model_id or arguments.get("hub_model_id") or folder.resolve().name
    return Facts(
        name=name,
        config=_read_json(folder / "config.json"),
        arguments=arguments,
        results=results,
        state=_read_json(folder / "trainer_state.json"),
        tradeoffs=_read_json(folder / "tradeoffs.json"),
        has_model=(folder / "config.json").is_file(),
    )


def _read_json(path: Path) -> Any:
    if not path.is_file():
        return {}
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"{path}: not JSON ({error}); it is one of the files that a run writes") from error


def _read_results(path: Path) -> dict[str, float]:
    """eval_results_<set>.txt: "key = value" lines."""
    suffix = _suffix(path.stem.removeprefix("eval_results_"))
    results = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        key, equals, text = (part.strip() for part in line.partition("="))
        if equals and re.fullmatch(r"-?\d+(\.\d+)?(e[+-]?\d+)?", text):
            value = float(text) if re.search(r"[.e]", text) else int(text)
            results[key if key.endswith(suffix) else key + suffix] = value
    return results


def _label_id(labels: list[str], start: str) -> int | None:
    """Position of the one label whose name starts with `start`; None: there is none, or more than one."""
    found = [index for index, label in enumerate(labels) if label.lower().startswith(start)]
    return found[0] if len(found) == 1 else None


def _suffix(set_name: str) -> str:
    return "_mm" if set_name.endswith("-mm") else ""


def is_number(value: Any) -> TypeGuard[int | float]:
    """A finite int or float; True and False are none."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def is_hub_id(name: str) -> bool:
    """Whether `name` has the form of a model's id on the Hub, "organisation/model"."""
    return re.fullmatch(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", name) is not None


def _name(value: Any) -> str | None:
    if not value:
        return None
    # A relative path of two parts looks like an id; where the folder exists it is that.
    return str(value) if is_hub_id(str(value)) and not Path(value).exists() else last_part(str(value))
