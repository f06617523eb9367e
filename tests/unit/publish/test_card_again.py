"""A model card that is written again: what a person added stays, what was generated is renewed."""

import json
import re
from pathlib import Path

import pytest
from huggingface_hub import ModelCard

from distilbart_mnli.errors import InputError
from distilbart_mnli.publish.card import renew_model_card, write_model_card
from tests.support.card_reading import check_hub_rules, readme, write
from tests.support.finished_run import RESULTS, on_data_that_is_not_glue, write_json

LAST = "<!-- end generated: citation -->"
END = (LAST, f"{LAST}\n\nThe end.")


def edit(folder: Path, *changes: tuple[str, str]) -> None:
    text = readme(folder)
    for old, new in changes:
        assert old in text
        text = text.replace(old, new, 1)
    (folder / "README.md").write_text(text, encoding="utf-8")


def test_text_outside_the_generated_sections_stays_where_it_is_and_the_sections_are_renewed(student):
    write_model_card(student)
    edit(
        student,
        (
            "<!-- begin generated: use -->",
            "## Thanks\n\nTo *Grace*,\n\n\nand to Ada.\n\n<!-- begin generated: use -->",
        ),
        END,
    )
    write_json(student / "all_results.json", {**RESULTS, "eval_accuracy": 0.5})
    write_model_card(student)
    text = readme(student)
    assert "**50.00 %**" in text and "**87.08 %**" not in text
    order = ["# distilbart", "## Results", "## Thanks\n\nTo *Grace*,\n\n\nand to Ada.\n", "## Use", "The end."]
    assert [text.index(part) for part in order] == sorted(text.index(part) for part in order)
    write_model_card(student)
    assert readme(student) == text


def test_sections_that_a_person_moved_stay_where_they_were_put(student):
    write_model_card(student)
    text = readme(student)
    section = re.search(r"<!-- begin generated: limits -->.*<!-- end generated: limits -->\n\n", text, re.DOTALL)[0]
    text = text.replace(section, "").replace(
        "<!-- begin generated: results", section + "<!-- begin generated: results"
    )
    (student / "README.md").write_text(text)
    write_model_card(student)
    assert readme(student) == text


def test_metadata_of_other_keys_stays_and_what_is_generated_is_renewed(student):
    write_model_card(student)
    edit(
        student,
        ("license: mit", "license: cc-by-4.0\nthumbnail: https://example.com/a.png\nco2_eq_emissions: {emissions: 3}"),
        ("- distilbart-mnli\n", "- distilbart-mnli\n- tickets\n"),
        ("- nyu-mll/glue", "- nyu-mll/glue\n- stanfordnlp/snli"),
    )
    write_json(student / "all_results.json", {**RESULTS, "eval_accuracy": 0.5})
    metadata, _ = write(student)
    check_hub_rules(metadata)
    assert metadata["thumbnail"] == "https://example.com/a.png"
    assert metadata["co2_eq_emissions"] == {"emissions": 3}
    assert (metadata["license"], metadata["datasets"]) == ("mit", ["nyu-mll/glue"])
    assert metadata["tags"] == ["distilbart", "distilbart-mnli"]
    values = [result["metrics"][0]["value"] for result in metadata["model-index"][0]["results"]]
    assert values == [0.5, RESULTS["eval_accuracy_mm"]]


def test_a_license_on_the_card_stays_where_the_run_names_none(student):
    state = json.loads((student / "trainer_state.json").read_text(encoding="utf-8"))
    write_json(student / "trainer_state.json", {**state, "run": {**state["run"], "license": None}})
    write_model_card(student)
    edit(student, ("library_name:", "license: other\nlicense_name: house\nlicense_link: https://x.org\nlibrary_name:"))
    for _ in range(2):
        metadata, text = write(student)
        named = [metadata[key] for key in ("license", "license_name", "license_link")]
        assert named == ["other", "house", "https://x.org"]
        assert "license is not stated" not in text


def test_the_notice_and_the_hidden_checksums_of_release_1_0_go(student):
    write_model_card(student)
    whole = readme(student)
    comment = '<!-- checksums of the generated metadata: {"license": "1b2c3d4e"} -->'
    notice = (
        "<!-- What lies between begin and end comments is written anew after every run. Text outside them is kept. -->"
    )
    old = re.sub(r"<!-- What lies .*? -->", notice, whole) + f"\n{comment}\n"
    (student / "README.md").write_text(old)
    write_model_card(student)
    assert readme(student) == whole


def test_metadata_that_is_not_true_any_more_goes(student):
    write_model_card(student)
    on_data_that_is_not_glue(student)
    of_another = json.loads((student / "config.json").read_text()) | {"teacher_name_or_path": "house-teacher"}
    write_json(student / "config.json", of_another)
    metadata, _ = write(student)
    assert not {"datasets", "base_model"} & set(metadata)
    assert len(metadata["model-index"][0]["results"]) == 2


def test_a_readme_written_by_hand_is_kept_below_the_card(student):
    (student / "README.md").write_text("---\nlicense: mit\nthumbnail: x.png\n---\n# Mine\n\nMy words.\n")
    metadata, text = write(student)
    assert metadata["thumbnail"] == "x.png" and metadata["pipeline_tag"] == "zero-shot-classification"
    assert text.index("## Citation") < text.index("# Mine\n\nMy words.")
    (student / "README.md").write_text("No metadata, only words.\n")
    assert "No metadata, only words." in write(student)[1]


@pytest.mark.parametrize(
    "content", [b"---\nlicense: [mit\n---\nMy words\n", b"caf\xe9", b"---\n- a\n- b\n---\nwords\n"]
)
def test_a_readme_that_cannot_be_read_is_set_aside_and_named(student, caplog, content):
    (student / "README.md").write_bytes(content)
    write_model_card(student)
    assert (student / "README.old.md").read_bytes() == content
    assert "README.old.md" in caplog.text
    (student / "README.md").write_bytes(content)
    write_model_card(student)  # a second one does not overwrite the first
    assert len([path for path in student.glob("README.old*") if path.read_bytes() == content]) == 2


def test_a_lost_marker_loses_no_words(student):
    write_model_card(student)
    edit(student, ("<!-- end generated: results -->", "My words."), ("<!-- begin generated: citation -->", "More."))
    for _ in range(3):
        write_model_card(student)
        text = readme(student)
        assert text.count("My words.") == 1 and text.count("More.") == 1
        for name in ("introduction", "results", "use", "training", "limits", "citation"):
            assert (
                text.count(f"<!-- begin generated: {name} -->") == text.count(f"<!-- end generated: {name} -->") == 1
            )


def test_a_copied_section_is_kept_once_and_words_between_the_copies_stay(student):
    write_model_card(student)
    begin, end = "<!-- begin generated: results -->", "<!-- end generated: results -->"
    edit(student, (end, f"{end}\n\nMy words.\n\n{begin}\n\nA copy.\n\n{end}"))
    whole = readme(student)
    for text in (whole, whole.replace(end, "", 1)):  # and with the first one's end lost
        (student / "README.md").write_text(text)
        write_model_card(student)
        assert readme(student).count("My words.") == readme(student).count(begin) == readme(student).count(end) == 1
        assert "A copy." not in readme(student)


def test_windows_line_ends_are_read(student):
    write_model_card(student)
    edit(student, (LAST, f"{LAST}\n\nMy words."))
    (student / "README.md").write_bytes(readme(student).replace("\n", "\r\n").encode())
    write_model_card(student)
    text = readme(student)
    assert text.count("## Results") == text.count("My words.") == 1


# ---------------------------------------------------------------------------------------------------------------------
# Faults


@pytest.mark.parametrize("name", ["config.json", "all_results.json", "trainer_state.json", "tradeoffs.json"])
def test_a_damaged_file_is_named_in_one_line_and_the_card_stays_as_it_was(student, name):
    write_model_card(student)
    before = readme(student)
    (student / name).write_text('{"eval_accuracy": 0.')
    with pytest.raises(InputError) as error:
        write_model_card(student)
    assert name in str(error.value) and "\n" not in str(error.value)
    assert readme(student) == before


def test_a_folder_that_is_not_there_is_named(tmp_path):
    with pytest.raises(InputError, match="nowhere"):
        write_model_card(tmp_path / "nowhere")


def test_a_license_can_be_added_to_the_card_of_a_finished_run(student, caplog):
    state = json.loads((student / "trainer_state.json").read_text(encoding="utf-8"))
    state["run"].pop("license", None)
    write_json(student / "trainer_state.json", state)
    write_model_card(student)
    edit(student, END)
    assert ModelCard.load(student / "README.md").data.license is None
    assert "license is not stated" in readme(student)
    caplog.clear()
    renew_model_card(student, license="apache-2.0")
    assert ModelCard.load(student / "README.md").data.license == "apache-2.0"
    assert "license is not stated" not in readme(student) and "The end." in readme(student)
    assert not caplog.messages
    before = readme(student)
    renew_model_card(student, license="apache-2.0")
    assert readme(student) == before and not caplog.messages
    renew_model_card(student, license="mit")
    assert readme(student) == before and "apache-2.0" in caplog.text
