"""examples/distillation: what is planned is run once, in an order in which everything is there, and tabled.

The commands run in this process. References: the fitted encoder's tensors as stock transformers reads them, and shares
counted from the runs' predictions.
"""

import csv
import shlex
import sys
from pathlib import Path

import pytest
import torch
from transformers import BartForSequenceClassification

from distilbart_mnli.errors import InputError
from distilbart_mnli.train import objective
from examples import common
from examples.distillation import __main__ as driver
from examples.distillation.cosine import cosine_losses
from tests.support.in_process import script
from tests.support.tiny import tiny_bart, tiny_mnli

pytestmark = pytest.mark.xdist_group("distillation")


def options(folder: Path) -> list[str]:
    sizes = "--train_rows 24 --sweep_rows 12 --seeds 1".split()
    named = ["--teacher", folder / "teacher", "--data_dir", folder / "data", "--output_dir", folder / "out"]
    return [*map(str, named), *sizes]


def by_cosine() -> None:
    """As examples/distillation/cosine.py: run_glue.py's options, and the other loss."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(objective, "state_losses", cosine_losses)
        script(["run_glue.py", *sys.argv[1:]], {})


MODULES = {"examples.distillation.cosine": by_cosine}


@pytest.fixture(scope="module")
def answered(tmp_path_factory) -> tuple[Path, list[list[str]]]:
    """The folder of a whole call, and what it gave to python."""
    folder = tmp_path_factory.mktemp("distillation")
    tiny_bart(folder / "teacher", encoder_layers=4, decoder_layers=4)
    tiny_mnli(folder / "data", train=24)
    ran: list[list[str]] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            common,
            "execute",
            lambda words: ran.append(words) or script(words, MODULES),
        )
        driver.main(options(folder))
    return folder, ran


def test_every_row_has_its_figures_and_nothing_ran_twice(answered, monkeypatch):
    folder, ran = answered
    text = (folder / "out/results.md").read_text()
    assert "not run" not in text
    assert len(ran) == len({shlex.join(words) for words in ran})
    monkeypatch.setattr(common, "execute", lambda words: pytest.fail(f"ran {words}"))
    driver.main(options(folder))
    assert (folder / "out/results.md").read_text() == text


def test_a_two_stage_student_has_the_fitted_encoder_and_a_teachers_decoder_that_was_trained(answered):
    runs = answered[0] / "out/runs"

    def weights(name: str) -> dict[str, torch.Tensor]:
        return BartForSequenceClassification.from_pretrained(runs / name, dtype=torch.float32).state_dict()

    fitted = weights("0.3-1-encoder_fitted-24-4-seed1")
    for decoder in (1, 3):
        found = weights(f"0.3-{decoder}-encoder_fitted_then_logits-24-4-2-seed1")
        for name, tensor in fitted.items():
            if name.startswith("model.encoder."):
                assert torch.equal(found[name], tensor), name
        assert any(not torch.equal(found[name], fitted[name]) for name in fitted if name.startswith("model.decoder."))


def test_the_share_of_the_teachers_labels_is_counted_from_the_predictions(answered):
    out = answered[0] / "out"

    def labels(run: str) -> list[str]:
        with (out / "runs" / run / "eval_predictions_mnli.tsv").open() as file:
            return [row["prediction"] for row in csv.DictReader(file, delimiter="\t")]

    mine, its = labels("0.3-1-labels-24-2-seed1"), labels("0.1.2.3-4-teacher")
    share = 100 * sum(a == b for a, b in zip(mine, its, strict=True)) / len(its)
    line = next(x for x in (out / "results.md").read_text().splitlines() if x.startswith("| labels | 2-1 "))
    assert line.split(" | ")[7] == f"{share:.1f}"
    teacher = next(x for x in (out / "results.md").read_text().splitlines() if x.startswith("| teacher"))
    assert teacher.split(" | ")[7] == "100.0"


def test_bad_input(tmp_path):
    tiny_bart(tmp_path / "teacher")
    with pytest.raises(InputError, match="layers"):
        driver.main(options(tmp_path))
    with pytest.raises(InputError, match="seeds"):
        driver.main([*options(tmp_path), "--seeds", "1", "1"])
