"""GLUE's nine tasks and its diagnostic set: one table that says all that differs between them.

    TASKS["rte"].label_names        # ("entailment", "not_entailment"), the order of nyu-mll/glue
    TASKS["rte"].train.columns      # the header of GLUE's RTE/train.tsv

Columns, label words and file names are those of the TSV files of gluebenchmark.com; label orders, the Hub's columns
and the numbers of rows those of nyu-mll/glue. Columns are found by name, so one list holds a column's name in the TSV
files and its name on the Hub. No other file decides anything by a task's name.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from distilbart_mnli.data.tables import Columns, same

NO_LABEL = "- -- ? -1 -100 nan none null na n/a <na> unlabeled unlabelled no_label hidden".split()
"""How people say that a row has no label, folded; beside nothing at all."""


@dataclass(frozen=True, kw_only=True)
class Source:
    """Where one split lies."""

    name: str
    """"train", or the evaluation or test set's name in the names of result files: "mnli", "mnli-mm", "cola"."""
    files: tuple[str, ...]
    """Relative to data_dir; the first that exists is read, and the first is the one that GLUE ships."""
    columns: tuple[str, ...] = ()
    """Columns of the first file as GLUE ships it; empty where nobody writes it or reads it by position."""
    has_header: bool = True
    """False: the file's first line is data, and `columns` says what is where (CoLA)."""
    hub: tuple[str, str] | None = None
    """Configuration and split of nyu-mll/glue; None: not there."""
    rows: int = 0
    """Examples in GLUE's own file; 0: not fixed."""
    submission: str = ""
    """Name of the submission file, without .tsv; test sets have one, and they may lack labels."""
    if_present: bool = False
    """A set that is left out where its file is missing."""


@dataclass(frozen=True, kw_only=True)
class Task:
    """Everything that differs between tasks."""

    name: str
    folder: str = ""
    """GLUE's folder of its files."""
    aliases: tuple[str, ...] = ()
    """Further names, beside every spelling of `name` in case, hyphens and underscores."""
    label_names: tuple[str, ...]
    """Names by label id, in the order of the Hub's data set; empty for regression."""
    file_labels: tuple[str, ...] = ()
    """How those labels are written in GLUE's TSV and submission files, in the same order; the names unless given."""
    label_range: tuple[float, float] | None = None
    """Regression: lowest and highest score."""
    metrics: tuple[str, ...] = ("accuracy",)
    """Keys of metrics.METRICS: GLUE's official ones."""
    citation: str = "glue"
    """The work that the data come from, as model_card.md cites it: "mnli" or "glue"."""
    sentence1: tuple[str, ...] = ("sentence1",)
    """Names the first text's column has in the TSV files and on the Hub."""
    sentence2: tuple[str, ...] = ("sentence2",)
    """The same of the second text; empty: single texts."""
    label: tuple[str, ...] = ("label",)
    """The same of the label."""
    train: Source | None = None
    evaluation: tuple[Source, ...] = ()
    test: tuple[Source, ...] = ()
    own_data: bool = False
    """The user's files, not GLUE's."""
    columns_read: Mapping[str, Columns] = field(default_factory=dict, repr=False, compare=False)
    """Of own data: the sets whose labels made the task, as they were read; name of the set -> its columns."""

    @property
    def is_regression(self) -> bool:
        return self.label_range is not None

    @property
    def num_labels(self) -> int:
        """Outputs of the model: 1 for regression."""
        return 1 if self.is_regression else len(self.label_names)

    @property
    def written_labels(self) -> tuple[str, ...]:
        """The labels as TSV and submission files have them, by label id."""
        return self.file_labels or self.label_names

    @cached_property
    def _ids(self) -> dict[str, int]:
        """A label as files have it -> its id; in one's own, numbers by their value."""
        return {same(word) if self.own_data else word: i for i, word in enumerate(self.written_labels)}

    @property
    def expected_label(self) -> str:
        """What a label in a file must be, for messages."""
        if self.label_range is None:
            return listed(self.written_labels)
        return "a score from {:g} to {:g}".format(*self.label_range)

    def read_label(self, word: str) -> float | None:
        """The label id, or for regression the score, that a file's word stands for; None: it is none of the task's."""
        try:
            if self.label_range is None:
                return self._ids[same(word) if self.own_data else word]
            score = float(word)
        except (KeyError, ValueError):
            return None
        low, high = self.label_range
        return score if low <= score <= high else None

    @property
    def columns(self) -> dict[str, tuple[str, ...]]:
        """Role -> the names of its column; no sentence2 for single texts."""
        roles = {"sentence1": self.sentence1, "sentence2": self.sentence2, "label": self.label}
        return {role: names for role, names in roles.items() if names}


def _source(
    config: str, split: str, rows: int, columns: tuple[str, ...], name: str = "", raw: str = "", **fields
) -> Source:
    """A split of the Hub: its file is called train.tsv, dev[_matched].tsv or test[_matched].tsv, or else `raw`."""
    file = split.replace("validation", "dev") + ".tsv"
    name = "train" if split == "train" else name or config
    files = (file, raw) if raw else (file,)
    return Source(name=name, files=files, columns=columns, hub=(config, split), rows=rows, **fields)


def _task(
    folder: str,
    rows: tuple[int, int, int],
    columns: tuple[str, ...],
    test_columns: tuple[str, ...] = (),
    has_header: bool = True,
    raw: tuple[str, str] = ("", ""),
    **fields,
) -> Task:
    """A task with train.tsv, dev.tsv and test.tsv; rows in that order, train and dev having the same columns, and test
    those without the label unless it is said."""
    name = folder.replace("-", "").lower()
    test_columns = test_columns or tuple(column for column in columns if column not in fields.get("label", ("label",)))
    labelled: dict = {"columns": columns, "has_header": has_header}
    return Task(
        name=name,
        folder=folder,
        train=_source(name, "train", rows[0], raw=raw[0], **labelled),
        evaluation=(_source(name, "validation", rows[1], raw=raw[1], **labelled),),
        test=(_source(name, "test", rows[2], test_columns, raw=raw[1], submission=folder),),
        **fields,
    )


_ID_PAIR = ("index", "sentence1", "sentence2")
_ID_SENTENCE = ("index", "sentence")
_MRPC = ("#1 ID", "#2 ID", "#1 String", "#2 String")
_STSB = ("index", "genre", "filename", "year", "old_index", "source1", "source2", "sentence1", "sentence2")
_MNLI = (
    *("index", "promptID", "pairID", "genre"),
    *("sentence1_binary_parse", "sentence2_binary_parse", "sentence1_parse", "sentence2_parse"),
    *("sentence1", "sentence2"),
)
_MNLI_DEV = (*_MNLI, "label1", "label2", "label3", "label4", "label5", "gold_label")
_SINGLE: dict = {"sentence1": ("sentence",), "sentence2": ()}
_NLI_LABELS = ("entailment", "neutral", "contradiction")

_DIAGNOSTIC = Source(
    name="ax",
    files=("diagnostic.tsv", "../AX/diagnostic.tsv", "../diagnostic/diagnostic.tsv"),
    columns=_ID_PAIR,
    hub=("ax", "test"),
    rows=1104,
    submission="AX",
)
_MNLI_TASK = Task(
    name="mnli",
    folder="MNLI",
    label_names=_NLI_LABELS,
    citation="mnli",
    sentence1=("sentence1", "premise"),
    sentence2=("sentence2", "hypothesis"),
    label=("gold_label", "label"),
    train=_source("mnli", "train", 392702, (*_MNLI, "label1", "gold_label")),
    evaluation=(
        _source("mnli", "validation_matched", 9815, _MNLI_DEV),
        _source("mnli", "validation_mismatched", 9832, _MNLI_DEV, "mnli-mm"),
    ),
    # GLUE wants its diagnostic set answered by the MNLI model.
    test=(
        _source("mnli", "test_matched", 9796, _MNLI, submission="MNLI-m"),
        _source("mnli", "test_mismatched", 9847, _MNLI, "mnli-mm", submission="MNLI-mm"),
        dataclasses.replace(_DIAGNOSTIC, if_present=True),
    ),
)

_ALL = (
    _task(
        "CoLA",
        rows=(8551, 1043, 1063),
        columns=("source", "label", "judgement", "sentence"),
        has_header=False,
        test_columns=_ID_SENTENCE,
        label_names=("unacceptable", "acceptable"),
        file_labels=("0", "1"),
        **_SINGLE,
        metrics=("matthews_correlation",),
    ),
    _task(
        "SST-2",
        rows=(67349, 872, 1821),
        columns=("sentence", "label"),
        test_columns=_ID_SENTENCE,
        aliases=("sst",),
        label_names=("negative", "positive"),
        file_labels=("0", "1"),
        **_SINGLE,
    ),
    _task(
        "MRPC",
        rows=(3668, 408, 1725),
        columns=("Quality", *_MRPC),
        test_columns=("index", *_MRPC),
        raw=("msr_paraphrase_train.txt", "msr_paraphrase_test.txt"),
        label_names=("not_equivalent", "equivalent"),
        file_labels=("0", "1"),
        sentence1=("#1 String", "sentence1"),
        sentence2=("#2 String", "sentence2"),
        label=("Quality", "label"),
        metrics=("f1", "accuracy"),
    ),
    _task(
        "STS-B",
        rows=(5749, 1500, 1379),
        columns=(*_STSB, "score"),
        aliases=("sts",),
        label_names=(),
        label_range=(0.0, 5.0),
        label=("score", "label"),
        metrics=("pearson", "spearmanr"),
    ),
    _task(
        "QQP",
        rows=(363846, 40430, 390965),
        columns=("id", "qid1", "qid2", "question1", "question2", "is_duplicate"),
        test_columns=("id", "question1", "question2"),
        label_names=("not_duplicate", "duplicate"),
        file_labels=("0", "1"),
        sentence1=("question1",),
        sentence2=("question2",),
        label=("is_duplicate", "label"),
        metrics=("f1", "accuracy"),
    ),
    _MNLI_TASK,
    dataclasses.replace(
        _MNLI_TASK,
        name="mnli-mm",
        aliases=("mnli-mismatched",),
        evaluation=_MNLI_TASK.evaluation[1:],
        test=_MNLI_TASK.test[1:2],
    ),
    _task(
        "QNLI",
        rows=(104743, 5463, 5463),
        columns=("index", "question", "sentence", "label"),
        sentence1=("question",),
        sentence2=("sentence",),
        label_names=("entailment", "not_entailment"),
    ),
    _task(
        "RTE",
        rows=(2490, 277, 3000),
        columns=(*_ID_PAIR, "label"),
        label_names=("entailment", "not_entailment"),
    ),
    _task(
        "WNLI",
        rows=(635, 71, 146),
        columns=(*_ID_PAIR, "label"),
        label_names=("not_entailment", "entailment"),
        file_labels=("0", "1"),
    ),
    Task(
        name="ax",
        folder="AX",
        aliases=("diagnostic",),
        label_names=_NLI_LABELS,
        sentence1=("sentence1", "Premise", "premise"),
        sentence2=("sentence2", "Hypothesis", "hypothesis"),
        label=("Label", "label"),
        metrics=("matthews_correlation", "accuracy"),
        evaluation=(Source(name="ax", files=("diagnostic-full.tsv",), rows=1104),),
        test=(_DIAGNOSTIC,),
    ),
)
TASKS: dict[str, Task] = {task.name: task for task in _ALL}
"""Every task by its name here: cola, sst2, mrpc, stsb, qqp, mnli, mnli-mm, qnli, rte, wnli, ax."""


def set_suffix(name: str, first: str) -> str:
    """What the keys of an evaluation set end with: "" for a task's first one, "_mm" for MNLI's second."""
    return "" if name == first else "_" + name.rpartition("-")[2]


def set_kind(name: str) -> str:
    """ "matched" or "mismatched", as MNLI calls its two evaluation sets."""
    return "mismatched" if name.endswith("-mm") else "matched"


def is_no_label(word: str) -> bool:
    """Whether a label looks like a mark for "no label"."""
    return same(word).casefold() in ("", *NO_LABEL)


def listed(names: Sequence[str]) -> str:
    """The first ten names, for a message."""
    return ", ".join(map(str, names[:10])) + (", ..." if names[10:] else "")
