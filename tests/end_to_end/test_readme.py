"""README.md from top to bottom, its commands as they stand there, with a tiny teacher under the real one's name."""

import runpy
import shlex
from pathlib import Path

import pytest
from transformers import BartForSequenceClassification

from tests.support import documents
from tests.support.documents import ROOT
from tests.support.hub_server import Hub
from tests.support.in_process import as_in_a_new_process
from tests.support.publishing import log_in
from tests.support.tiny import tiny_bart, tiny_mnli

README = ROOT / "README.md"
# Tested elsewhere: the download (test_download.py), the examples and the benchmarks (their own tests).
ELSEWHERE = ("python -m", "source ", "pip ", "make ", "python download_glue_data.py", "bash ", "SMOKE=1 bash ")


def run(command: str) -> None:
    """The command in this process; a launcher with one process is left out (test_launchers.py has it)."""
    words = shlex.split(command.replace("accelerate launch", "python"))[1:]
    with as_in_a_new_process(*words):
        try:
            runpy.run_path(str(ROOT / words[0]), run_name="__main__")
        except SystemExit as ended:
            assert not ended.code, command


def test_the_commands_work_in_the_readme_s_order(tmp_path: Path, hub: Hub, monkeypatch: pytest.MonkeyPatch):
    log_in(monkeypatch, hub, hub.add_user("ann"))
    monkeypatch.chdir(tmp_path)
    tiny_bart(Path("facebook/bart-large-mnli"), encoder_layers=12, decoder_layers=12, max_position_embeddings=160)
    tiny_bart(Path("valhalla/distilbart-mnli-12-1"), encoder_layers=2, decoder_layers=1)
    tiny_mnli(Path("glue_data/MNLI"), train=150)
    Path("reviews.csv").write_text("text\nToo dear.\nIt broke.\n", encoding="utf-8")
    for name in ("args", "args.json"):
        Path(name).symlink_to(ROOT / name)
    (sample,) = (token.content for token in documents.tokens(README) if token.info == "python")
    exec(compile(sample, "README.md", "exec"), {})
    done = [command for command in documents.commands(README) if not command.startswith(ELSEWHERE)]
    for command in done:
        # Speed is measured in processes of their own, in test_compare_models.py.
        run(f"{command} --no_speed" if "compare_models.py" in command else command)
    scripts = [command.split(".py")[0].split()[-1] for command in done]
    assert scripts == ["classify", "create_student", "run_glue", "compare_models", "run_glue", "run_glue"]
    assert len(Path("labels.jsonl").read_text(encoding="utf-8").splitlines()) == 2
    student = BartForSequenceClassification.from_pretrained("distilbart-mnli-12-6")
    assert student.config.decoder_layer_ids == [0, 2, 4, 7, 9, 11]  # 2020's
    assert hub.files("ann/distilbart-mnli-12-6")["model.safetensors"]
    assert Path("tradeoffs/tradeoffs.md").read_text().count("distilbart-mnli-12-6") > 0
