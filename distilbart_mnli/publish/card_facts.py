"""What a finished run's files say about it: the facts that the model card is written from.

    facts = read_facts(Path("distilbart-mnli-12-1"))

Every file may be missing: a folder that was only evaluated has no config.json, a run without an evaluation no scores.
A fact that is not known is None and the card leaves its line out; nothing is guessed.
"""

import hashlib
import json
import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from distilbart_mnli.data.labels import entailment_id, folded, label_names
from distilbart_mnli.data.splits import HUB_DATASET
from distilbart_mnli.data.tasks import TASKS, Source, Task, set_suffix
from distilbart_mnli.errors import InputError
from distilbart_mnli.export.session import FLOAT_FILE, FOLDER, INT8_FIGURES
from distilbart_mnli.model.history import is_distilled, read_history
from distilbart_mnli.public_text import last_part
from distilbart_mnli.publish.run_files import Values, is_number, read_json, read_results

# Key in all_results.json without eval_ -> (name for a reader, id on hf.co/metrics, shown in percent)
METRIC_NAMES = {
    "accuracy": ("Accuracy", "accuracy", True),
    "f1": ("F1", "f1", True),
    "matthews_correlation": ("Matthews correlation", "matthews_correlation", False),
    "pearson": ("Pearson correlation", "pearsonr", False),
    "spearmanr": ("Spearman correlation", "spearmanr", False),
}

# Accuracy in percent by decoder layers, with all 12 encoder layers of facebook/bart-large-mnli: the table in the
# README of github.com/patil-suraj/distillbart-mnli (2020), digits as they stand there.
REPORTED_2020 = {
    1: {"matched": "87.08", "mismatched": "87.5"},
    3: {"matched": "88.1", "mismatched": "88.19"},
    6: {"matched": "89.19", "mismatched": "89.01"},
    9: {"matched": "89.56", "mismatched": "89.52"},
}
TEACHER_2020 = "facebook/bart-large-mnli"
REPORTED_2020_TEACHER = {"matched": "89.9", "mismatched": "90.01"}

_ADDRESS = r"https?://[^\s()<>\[\]\"'`|\\]+"  # nothing that could end the link of a card


@dataclass(frozen=True)
class Evaluation:
    """The final scores on one evaluation set."""

    name: str
    """ "MNLI, mismatched"; "CoLA"."""
    kind: str
    """ "matched" or "mismatched" for MNLI's sets, else empty."""
    source: Source | None
    """The set in the table of tasks; None: the user's own data."""
    examples: int | None
    scores: dict[str, float]
    """Key of METRIC_NAMES -> a finite value."""

    @property
    def is_part(self) -> bool:
        """On fewer examples than GLUE's set has."""
        return bool(self.source and self.source.rows and self.examples and self.examples < self.source.rows)


@dataclass(frozen=True)
class Facts:
    """The files of one output_dir, parsed, and what follows from them. A file that is missing says nothing."""

    name: str
    """The folder's name, or the repository's on the Hub: "user/name"."""
    config: Values
    arguments: Values
    results: Values
    state: Values
    run: Values
    """The `run` of trainer_state.json."""
    tradeoffs: Values
    has_model: bool
    has_onnx: bool
    """Whether onnx/model.onnx is there."""
    quantization: Values
    """onnx/quantization.json: the figures of onnx/model_quantized.onnx."""

    @property
    def title(self) -> str:
        return self.name.split("/")[-1]

    @property
    def stamp(self) -> str | None:
        """What a card says of the run that it describes: its id, and a checksum of its results."""
        if not re.fullmatch("[0-9a-f]{8,64}", self.run["id"] or ""):
            return None
        measured = {
            key: value for key, value in self.results.items() if not re.search("runtime|per_second|time_", key)
        }
        results = json.dumps(measured, sort_keys=True).encode()
        return f"{self.run['id']}, results {hashlib.sha256(results).hexdigest()[:12]}"

    @property
    def is_finished(self) -> bool:
        """Whether the results are there that the run which made the model was to leave; true where it has no id."""
        if self.stamp is None:
            return True
        wanted = "eval_" if self.arguments["do_eval"] else "train_"
        return any(key.startswith(wanted) for key in self.results)

    # -- the model ----------------------------------------------------------------------------------------------------

    @cached_property
    def labels(self) -> list[str]:
        """Label names in the model's order."""
        return list(label_names(self.config, f"{self.name}/config.json") or ())

    @property
    def entailment_id(self) -> int | None:
        return entailment_id(self._label2id)

    @property
    def contradiction_id(self) -> int | None:
        return next((index for name, index in self._label2id.items() if folded(name).startswith("contradict")), None)

    @property
    def _label2id(self) -> dict[str, int]:
        """Of the model; of a folder without one, the task's."""
        names = self.labels or (self.task.label_names if self.task else ())
        return {name: index for index, name in enumerate(names)}

    @property
    def is_nli(self) -> bool:
        """Three labels, entailment and contradiction among them: a model for the zero-shot pipeline."""
        return len(self._label2id) == 3 and None not in (self.entailment_id, self.contradiction_id)

    @property
    def teacher(self) -> str | None:
        """Hub id or folder name of the model whose layers were copied."""
        return _name(self.config["teacher_name_or_path"])

    @cached_property
    def stages(self) -> list[Values] | None:
        """The trainings since the layers were copied (model/history.py); None: no file says anything of them."""
        stages = read_history(self.config["distillation"], self.name)
        return None if stages is None else [Values(stage) for stage in stages]

    @property
    def learnt_from(self) -> list[str]:
        """The teachers whose answers were learnt, as far as they are known."""
        if self.stages is None:
            names = [self.recipe["teacher_model_name_or_path"]]
        else:
            names = [stage["teacher"] for stage in self.stages]
        return [name for name in dict.fromkeys(map(_name, names)) if name]

    @property
    def is_distilled(self) -> bool:
        """Whether a teacher's answers were learnt, or may have been: a record can be unreadable."""
        return bool(self.learnt_from) or is_distilled(self.stages)

    @property
    def start(self) -> str | None:
        """Hub id or folder name of the model that was fine-tuned or evaluated."""
        return _name(self.arguments["model_name_or_path"])

    @property
    def base_model(self) -> str | None:
        """The teacher, else the model that was fine-tuned, if it is one of the Hub."""
        name = self.teacher or self.start
        return name if name and is_hub_id(name) and name != self.name else None

    # -- training -----------------------------------------------------------------------------------------------------

    @property
    def trained(self) -> bool:
        return bool(self.arguments["do_train"]) or "train_loss" in self.results

    @property
    def recipe(self) -> Values:
        """The options, where they are those of a training."""
        return self.arguments if self.arguments["do_train"] else Values()

    @property
    def train_examples(self) -> int | None:
        return self.run["train_examples"] or self.results["train_samples"]

    @property
    def log_links(self) -> list[tuple[str, str]]:
        """(tracker, address) of the logs that a reader can open."""
        urls = self.run["tracker_urls"] or {}
        return [(name, url) for name, url in urls.items() if re.fullmatch(_ADDRESS, str(url))]

    @property
    def license(self) -> str | None:
        return self.run["license"] or self.arguments["license"] or None

    @property
    def license_link(self) -> str | None:
        """Address of such a license's text. A file beside the teacher is not one beside the student."""
        link = self.run["license_link"]
        if not link or re.fullmatch(_ADDRESS, link):
            return link or None
        is_file = re.fullmatch(r"[\w./-]+", link)
        return f"https://huggingface.co/{self.base_model}/blob/main/{link}" if is_file and self.base_model else None

    # -- data and scores ----------------------------------------------------------------------------------------------

    @cached_property
    def task(self) -> Task | None:
        """GLUE's task, or None for the user's own data."""
        given = self.run["task"] or self.arguments["task_name"] or ""
        plain = {re.sub(r"[^a-z0-9]", "", name): task for name, task in TASKS.items()}
        return plain.get(re.sub(r"[^a-z0-9]", "", str(given).lower()))

    @cached_property
    def is_glue_data(self) -> bool:
        """Whether this was GLUE's own data, so that a score may be filed under GLUE.

        data_dir may hold anything in a task's format (the quickstart's toy data is one). It counts as GLUE's where one
        of the sets that were read has GLUE's number of rows, or where each was cut to a number that was asked for.
        """
        if self.task is None:
            return False
        if self.arguments["data_dir"] is None:
            return bool(self.arguments)
        counts = [(self.train_examples, self.task.train.rows if self.task.train else 0, "max_train_samples")]
        for source in self.task.evaluation:
            counts.append((self.results["eval_samples" + self._suffix(source)], source.rows, "max_eval_samples"))
        known = [(examples, rows, self.arguments[limit]) for examples, rows, limit in counts if examples]
        return any(examples == rows for examples, rows, _ in known) or (
            bool(known) and all(examples == limit for examples, _, limit in known)
        )

    def _suffix(self, source: Source | None) -> str:
        """What the keys of an evaluation set end with in all_results.json."""
        return set_suffix(source.name, self.task.evaluation[0].name) if source and self.task else ""

    @cached_property
    def evaluations(self) -> list[Evaluation]:
        """Those that gave a score, in the order of the task's sets."""
        found = []
        for source in self.task.evaluation if self.task else [None]:
            suffix = self._suffix(source)
            values = {metric: self.results[f"eval_{metric}{suffix}"] for metric in METRIC_NAMES}
            scores = {metric: value for metric, value in values.items() if is_number(value)}
            kind = source.hub[1].removeprefix("validation").strip("_") if source and source.hub else ""
            name = f"{self.task.folder}{', ' * bool(kind)}{kind}" if self.task else "validation"
            found.append(Evaluation(name, kind, source, self.results[f"eval_samples{suffix}"], scores))
        return [evaluation for evaluation in found if evaluation.scores]

    @property
    def metrics(self) -> list[str]:
        """Keys of METRIC_NAMES that were measured on any set."""
        return list(dict.fromkeys(metric for evaluation in self.evaluations for metric in evaluation.scores))

    @property
    def dataset(self) -> str | None:
        """Id of the data set on the Hub."""
        return HUB_DATASET if self.is_glue_data else None

    # -- 2020 ---------------------------------------------------------------------------------------------------------

    @property
    def is_student_of_2020(self) -> bool:
        """A fine-tuned student of 2020's teacher, measured as then."""
        return self.teacher == TEACHER_2020 and self.trained and self._on_mnli

    @cached_property
    def reported_2020(self) -> dict[str, dict[str, str]]:
        """Model -> its percent by evaluation set, for those of 2020 that stand beside this run's scores.

        A student's namesake and its teacher; beside the teacher's own evaluation the teacher.
        """
        teacher, layers = TEACHER_2020.split("/")[1], self.config["decoder_layers"]
        if self.start == TEACHER_2020 and not self.trained and self._on_mnli:
            return {teacher: REPORTED_2020_TEACHER}
        if self.is_student_of_2020 and self.config["encoder_layers"] == 12 and layers in REPORTED_2020:
            student = f"distilbart-mnli-12-{layers}"
            return {student: REPORTED_2020[layers], f"{teacher}, the teacher": REPORTED_2020_TEACHER}
        return {}

    @property
    def _on_mnli(self) -> bool:
        return self.is_glue_data and any(evaluation.kind for evaluation in self.evaluations)


def read_facts(folder: Path, hub_model_id: str | None = None) -> Facts:
    """Read what is there of config.json, training_args.json, all_results.json, trainer_state.json, tradeoffs.json
    and of onnx/.

    Raises:
        InputError: no such folder, or one of these files is not JSON.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; a model card is written from the files of a finished run")
    arguments, state = read_json(folder / "training_args.json"), read_json(folder / "trainer_state.json")
    found = read_json(folder / "all_results.json") or read_results(folder)
    has_model = (folder / "config.json").is_file()
    # eval_model: another model was evaluated into this folder
    foreign = "eval_" if has_model and found["eval_model"] else "-"
    results = {key: value for key, value in found.items() if is_number(value) and not key.startswith(foreign)}
    return Facts(
        name=hub_model_id or arguments["hub_model_id"] or default_name(folder),
        config=read_json(folder / "config.json"),
        arguments=arguments,
        results=Values(results),
        state=state,
        run=state["run"] or Values(),
        tradeoffs=read_json(folder / "tradeoffs.json"),
        has_model=has_model,
        has_onnx=(folder / FOLDER / FLOAT_FILE).is_file(),
        quantization=read_json(folder / FOLDER / INT8_FIGURES),
    )


def default_name(folder: Path) -> str:
    """What the model in a folder is called where nobody says otherwise: as the folder.

    The four names of 2020 stand for models that no teacher's predictions had a part in; a distilled one that lies
    under such a name is told apart by "-kd".
    """
    name = folder.resolve().name
    of_2020 = name in {f"distilbart-mnli-12-{layers}" for layers in REPORTED_2020}
    history = read_history(read_json(folder / "config.json")["distillation"], name) if of_2020 else None
    return f"{name}-kd" if is_distilled(history) else name


def is_hub_id(name: str) -> bool:
    """Whether `name` has the form of a model's id on the Hub, "organisation/model"."""
    return re.fullmatch(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", name) is not None


def _name(value: Any) -> str | None:
    if not value:
        return None
    # A relative path of two parts looks like an id; where the folder exists it is that.
    return str(value) if is_hub_id(str(value)) and not Path(value).exists() else last_part(str(value))
