"""GLUE's files and its data set on the Hub, written out once more so that the product's table is checked against them.

    write_task(tmp_path / "RTE", "rte", rows=20)        # train.tsv, dev.tsv, test.tsv as gluebenchmark.com ships them
    write_hub(tmp_path / "glue", "rte", rows=20)        # parquet files and a card, which load_dataset reads

The texts are learnable from one word; labels go round, so every class is there from the third row on.
"""

from pathlib import Path

import datasets

from distilbart_mnli.options.fields import Arguments

MNLI_START = (
    "index\tpromptID\tpairID\tgenre\tsentence1_binary_parse\tsentence2_binary_parse\tsentence1_parse\tsentence2_parse"
    "\tsentence1\tsentence2"
)
MNLI_ROW = "{i}\t31193\t31193n\tgovernment\t( a )\t( b )\t(ROOT a)\t(ROOT b)\t{a}\t{b}"
MRPC_START = "#1 ID\t#2 ID\t#1 String\t#2 String"
STSB_START = "index\tgenre\tfilename\tyear\told_index\tsource1\tsource2\tsentence1\tsentence2"
STSB_ROW = "{i}\tmain-captions\tMSRvid\t2012test\t0001\tnone\tnone\t{a}\t{b}"
NLI = ("entailment", "neutral", "contradiction")
TWO_WAY = ("entailment", "not_entailment")
NUMBERS = ("0", "1")

# file -> (header, a row, the labels in the order of nyu-mll/glue as the file writes them)
LAYOUTS: dict[str, dict[str, tuple[str, str, tuple[str, ...]]]] = {
    "cola": {
        "train.tsv": ("", "gj04\t{label}\t\t{a}", NUMBERS),
        "dev.tsv": ("", "gj04\t{label}\t*\t{a}", NUMBERS),
        "test.tsv": ("index\tsentence", "{i}\t{a}", ()),
    },
    "sst2": {
        "train.tsv": ("sentence\tlabel", "{a} \t{label}", NUMBERS),
        "dev.tsv": ("sentence\tlabel", "{a} \t{label}", NUMBERS),
        "test.tsv": ("index\tsentence", "{i}\t{a}", ()),
    },
    "mrpc": {
        "train.tsv": ("\ufeffQuality\t" + MRPC_START, "{label}\t70{i}\t71{i}\t{a}\t{b}", NUMBERS),
        "dev.tsv": ("\ufeffQuality\t" + MRPC_START, "{label}\t70{i}\t71{i}\t{a}\t{b}", NUMBERS),
        "test.tsv": ("index\t" + MRPC_START, "{i}\t70{i}\t71{i}\t{a}\t{b}", ()),
    },
    "stsb": {
        "train.tsv": (STSB_START + "\tscore", STSB_ROW + "\t{label}", ("0.000", "2.500", "5.000")),
        "dev.tsv": (STSB_START + "\tscore", STSB_ROW + "\t{label}", ("0.000", "2.500", "5.000")),
        "test.tsv": (STSB_START, STSB_ROW, ()),
    },
    "qqp": {
        "train.tsv": (
            "id\tqid1\tqid2\tquestion1\tquestion2\tis_duplicate",
            "{i}\t1{i}\t2{i}\t{a}\t{b}\t{label}",
            NUMBERS,
        ),
        "dev.tsv": (
            "id\tqid1\tqid2\tquestion1\tquestion2\tis_duplicate",
            "{i}\t1{i}\t2{i}\t{a}\t{b}\t{label}",
            NUMBERS,
        ),
        "test.tsv": ("id\tquestion1\tquestion2", "{i}\t{a}\t{b}", ()),
    },
    "mnli": {
        "train.tsv": (MNLI_START + "\tlabel1\tgold_label", MNLI_ROW + "\t{label}\t{label}", NLI),
        "dev_matched.tsv": (
            MNLI_START + "\tlabel1\tlabel2\tlabel3\tlabel4\tlabel5\tgold_label",
            MNLI_ROW + "\tneutral\t\t\t\t\t{label}",
            NLI,
        ),
        "dev_mismatched.tsv": (
            MNLI_START + "\tlabel1\tlabel2\tlabel3\tlabel4\tlabel5\tgold_label",
            MNLI_ROW + "\tneutral\tneutral\tcontradiction\tentailment\tneutral\t{label}",
            NLI,
        ),
        "test_matched.tsv": (MNLI_START, MNLI_ROW, ()),
        "test_mismatched.tsv": (MNLI_START, MNLI_ROW, ()),
    },
    "qnli": {
        "train.tsv": ("index\tquestion\tsentence\tlabel", "{i}\t{a}\t{b}\t{label}", TWO_WAY),
        "dev.tsv": ("index\tquestion\tsentence\tlabel", "{i}\t{a}\t{b}\t{label}", TWO_WAY),
        "test.tsv": ("index\tquestion\tsentence", "{i}\t{a}\t{b}", ()),
    },
    "rte": {
        "train.tsv": ("index\tsentence1\tsentence2\tlabel", "{i}\t{a}\t{b}\t{label}", TWO_WAY),
        "dev.tsv": ("index\tsentence1\tsentence2\tlabel", "{i}\t{a}\t{b}\t{label}", TWO_WAY),
        "test.tsv": ("index\tsentence1\tsentence2", "{i}\t{a}\t{b}", ()),
    },
    "wnli": {
        "train.tsv": ("index\tsentence1\tsentence2\tlabel", "{i}\t{a}\t{b}\t{label}", NUMBERS),
        "dev.tsv": ("index\tsentence1\tsentence2\tlabel", "{i}\t{a}\t{b}\t{label}", NUMBERS),
        "test.tsv": ("index\tsentence1\tsentence2", "{i}\t{a}\t{b}", ()),
    },
    "ax": {
        "diagnostic.tsv": ("index\tsentence1\tsentence2", "{i}\t{a}\t{b}", ()),
        "diagnostic-full.tsv": (
            "Lexical Semantics\tPredicate-Argument Structure\tLogic\tKnowledge\tDomain\tPremise\tHypothesis\tLabel",
            "Quantifiers\t\t\t\tArtificial\t{a}\t{b}\t{label}",
            NLI,
        ),
    },
}
LABEL_NAMES = {
    "cola": ("unacceptable", "acceptable"),
    "sst2": ("negative", "positive"),
    "mrpc": ("not_equivalent", "equivalent"),
    "stsb": (),
    "qqp": ("not_duplicate", "duplicate"),
    "mnli": NLI,
    "qnli": TWO_WAY,
    "rte": TWO_WAY,
    "wnli": ("not_entailment", "entailment"),
    "ax": NLI,
}
ONE_SET_EACH = ("cola", "sst2", "mrpc", "stsb", "qqp", "qnli", "rte", "wnli")
"""The tasks with one train.tsv, one dev.tsv and one test.tsv."""
COLUMNS_ON_THE_HUB = {
    "cola": ("sentence",),
    "sst2": ("sentence",),
    "mnli": ("premise", "hypothesis"),
    "ax": ("premise", "hypothesis"),
    "qqp": ("question1", "question2"),
    "qnli": ("question", "sentence"),
    **dict.fromkeys(("mrpc", "stsb", "rte", "wnli"), ("sentence1", "sentence2")),
}
_CUES = ("the dog eats", "the cat sees", "not a bird")


def texts(row: int, label: int) -> tuple[str, str]:
    """Both texts of a row; the second one's words give the label away."""
    return f'the "small dog {row}', f"{_CUES[label]} in the garden {row}"


def write_task(folder: Path, task: str, rows: int = 12) -> Path:
    """All files of a task; returns the folder. Row i has label i modulo the number of labels, in test files as well,
    where only its text shows it."""
    folder.mkdir(parents=True, exist_ok=True)
    number = max(len(labels) for _, _, labels in LAYOUTS[task].values())
    for file, (header, row, labels) in LAYOUTS[task].items():
        lines = [header] if header else []
        for i in range(rows):
            first, second = texts(i, i % number)
            if "{b}" not in row:
                first = f"{second} {first}"
            lines.append(row.format(i=i, a=first, b=second, label=labels[i % number] if labels else ""))
        (folder / file).write_bytes(("\n".join(lines) + "\n").encode())
    return folder


def hub_files(folder: Path, name: str, rows: int = 5, label_names=None) -> list[dict]:
    """Parquet files of one configuration of nyu-mll/glue; returns its data_files for the card."""
    names = label_names or LABEL_NAMES[name]
    label = datasets.ClassLabel(names=list(names)) if names else datasets.Value("float32")
    features = {column: datasets.Value("string") for column in COLUMNS_ON_THE_HUB[name]}
    features.update(label=label, idx=datasets.Value("int32"))
    splits = {
        "mnli": ("train", "validation_matched", "validation_mismatched", "test_matched", "test_mismatched"),
        "ax": ("test",),
    }
    data_files = []
    for split in splits.get(name, ("train", "validation", "test")):
        values = {
            column: [f"{column} {i} of\u2028{split}" for i in range(rows)] for column in COLUMNS_ON_THE_HUB[name]
        }
        labels = [-1] * rows if "test" in split else [i % (len(names) or 5) for i in range(rows)]
        data = datasets.Dataset.from_dict(
            {**values, "label": labels, "idx": range(rows)}, features=datasets.Features(features)
        )
        data.to_parquet(folder / name / f"{split}-00000-of-00001.parquet")
        data_files.append({"split": split, "path": f"{name}/{split}-*"})
    return data_files


def write_hub(folder: Path, *names: str, **options) -> Path:
    """A folder that load_dataset reads as it reads nyu-mll/glue."""
    lines = ["---", "configs:"]
    for name in names:
        lines += [f"- config_name: {name}", "  data_files:"]
        for file in hub_files(folder, name, **options):
            lines += [f"  - split: {file['split']}", f"    path: {file['path']}"]
    (folder / "README.md").write_text("\n".join([*lines, "---", ""]))
    return folder


def glue_args(task_name: str, data_dir: Path | None = None, **more) -> Arguments:
    return Arguments(task_name=task_name, data_dir=str(data_dir) if data_dir else None, **more)
