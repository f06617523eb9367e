"""download_glue_data.py as a user runs it: MNLI at its real size, a kill in the middle, a server that refuses."""

import sys
import time

import datasets
import numpy as np
import pytest

from distilbart_mnli.data.splits import get_task, load_train
from tests.support.glue_files import LAYOUTS, NLI, glue_args
from tests.support.hub_server import FOREVER, Hub
from tests.support.launch import environment, finish, run, start
from tests.support.tiny import ROOT

pytestmark = pytest.mark.xdist_group("download")

MNLI_ROWS = {"train": 392_702, "dev_matched": 9_815, "dev_mismatched": 9_832, "test_matched": 9_796}
MNLI_ROWS["test_mismatched"] = 9_847


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """One cache of the real client for the module: MNLI comes over the wire once."""
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def mnli_hub(tmp_path_factory):
    """A server with MNLI at its real number of rows; every tenth text has a tab or a line break in it."""
    folder = tmp_path_factory.mktemp("glue")
    features = {"premise": datasets.Value("string"), "hypothesis": datasets.Value("string")}
    features.update(label=datasets.ClassLabel(names=list(NLI)), idx=datasets.Value("int32"))
    card = ["---", "configs:", "- config_name: mnli", "  data_files:"]
    for file, rows in MNLI_ROWS.items():
        split = file.replace("dev", "validation")
        premises = [f'a "dog {i}' for i in range(rows)]
        premises[::10] = ["a\tb\r\nc\u2028d"] * len(premises[::10])
        data = {"premise": premises, "hypothesis": ["é <b>"] * rows, "idx": range(rows)}
        data["label"] = [-1] * rows if "test" in file else (np.arange(rows) % 3).tolist()
        table = datasets.Dataset.from_dict(data, features=datasets.Features(features))
        table.to_parquet(folder / "mnli" / f"{split}-00000-of-00001.parquet")
        card += [f"  - split: {split}", f"    path: mnli/{split}-*"]
    (folder / "README.md").write_text("\n".join([*card, "---", ""]))
    with Hub(tmp_path_factory.mktemp("hub")) as hub:
        hub.add_repo("nyu-mll/glue", folder, "dataset")
        yield hub


def test_mnli_is_downloaded_whole_in_glue_s_layout_and_a_second_call_asks_nothing(mnli_hub, home, tmp_path):
    env = mnli_hub.environment(None, home)
    flags = ("download_glue_data.py", "--data_dir", tmp_path / "glue_data", "--tasks", "MNLI")
    done = run(*flags, env=env)
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "glue_data" / "MNLI"
    assert sorted(path.name for path in folder.iterdir()) == sorted(f"{name}.tsv" for name in MNLI_ROWS)
    for name, rows in MNLI_ROWS.items():
        lines = (folder / f"{name}.tsv").read_text(encoding="utf-8").split("\n")
        assert lines[0] == LAYOUTS["mnli"][f"{name}.tsv"][0]
        assert len(lines) == rows + 2  # the header, and nothing after the last line feed
        labels = {"train": "\t\tentailment", "test": ""}.get(name.split("_")[0], "\t\t\t\t\t\tentailment")
        assert lines[1] == "0\t\t\t\t\t\t\t\ta b c\u2028d\té <b>" + labels
        assert f"{name}.tsv: {rows:,} rows, {2 * -(-rows // 10):,} tabs and line breaks" in done.stdout
    args = glue_args("mnli", folder)
    train = load_train(args, get_task(args))
    np.testing.assert_array_equal(train.labels, np.arange(MNLI_ROWS["train"]) % 3)
    assert train.sentence1[7] == 'a "dog 7'
    asked = len(mnli_hub.requests)
    again = run(*flags, env=env)
    assert again.returncode == 0
    assert again.stdout.count("was there") == 5
    assert len(mnli_hub.requests) == asked


def test_a_killed_download_leaves_no_half_file_and_goes_on(mnli_hub, home, tmp_path):
    env = mnli_hub.environment(None, home)
    folder = tmp_path / "glue_data" / "MNLI"
    flags = ["--data_dir", str(tmp_path / "glue_data"), "--tasks", "mnli"]
    child = start([sys.executable, ROOT / "download_glue_data.py", *flags], environment(**env))
    while child.poll() is None and not list(folder.glob(".writing-*")):
        time.sleep(0.001)
    child.kill()
    finish(child)
    for path in folder.glob("[!.]*.tsv"):
        assert path.read_bytes().count(b"\n") == MNLI_ROWS[path.stem] + 1
    done = run("download_glue_data.py", *flags, env=env)
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in folder.iterdir()) == sorted(f"{name}.tsv" for name in MNLI_ROWS)


def test_a_server_that_refuses_ends_with_one_line_and_code_3(mnli_hub, tmp_path):
    mnli_hub.fault("resolve", status=403, times=FOREVER)
    flags = ("--data_dir", tmp_path / "data", "--tasks", "MNLI")
    try:
        done = run("download_glue_data.py", *flags, env=mnli_hub.environment(None, tmp_path / "home"))
    finally:
        mnli_hub.faults.clear()
    assert done.returncode == 3
    last = done.stderr.strip().split("\n")[-1]
    assert last.startswith("error: nyu-mll/glue (mnli, train)")
    assert "Traceback" not in done.stderr
    assert list((tmp_path / "data" / "MNLI").iterdir()) == []
