"""A folder of parquet files with the layout and schema of nyu-mll/glue, for the real datasets client."""

from pathlib import Path

import datasets

from tests.support.glue_files import LABEL_NAMES

COLUMNS_ON_THE_HUB = {
    "cola": ("sentence",),
    "sst2": ("sentence",),
    "mnli": ("premise", "hypothesis"),
    "ax": ("premise", "hypothesis"),
    "qqp": ("question1", "question2"),
    "qnli": ("question", "sentence"),
    **dict.fromkeys(("mrpc", "stsb", "rte", "wnli"), ("sentence1", "sentence2")),
}


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
