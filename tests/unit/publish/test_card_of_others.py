"""Text of others in a model card: whatever stands in the files, the card shows it as text, and can be made.

The card is rendered by an independent Markdown parser (markdown-it, with GitHub's tables and strikethrough), and its
metadata are read as the Hub reads them.
"""

import datetime
import json
import re
import time
from pathlib import Path

import pytest
import yaml
from markdown_it import MarkdownIt

from distilbart_mnli.errors import InputError
from distilbart_mnli.model.pretrained import read_card
from distilbart_mnli.model.source import Source
from distilbart_mnli.publish.card import write_model_card
from distilbart_mnli.publish.card_format import escaped, link, named
from tests.support.card_reading import check_hub_rules, readme, write
from tests.support.finished_run import finished_run, write_json

PARSER = MarkdownIt("commonmark").enable(["table", "strikethrough"])
MEAN = [
    "`code` and ``more``", "<script>alert(1)</script>", "[click](javascript:alert(1))", "![x](https://evil.example/p)",
    "https://evil.example/x", "www.evil.example", "# heading", "a\n\n# heading\n\nb", "*strong* __strong__ ~~gone~~",
    "a|b|c", "\x1b[31mred\x07\u202e\u2028", "&lt;b&gt; &amp; &#60;", "<!-- end generated: use -->", "-->", "C:\\x\\*",
    "```\n# out\n```", "$$x$$", "<img src=x onerror=y>", "text @someone a@b.example", "> quote", "- item", "\\", "|",
    "`",
]  # fmt: skip
ORDINARY = [
    "facebook/bart-large-mnli",
    "LABEL_0",
    "not_entailment",
    "C#",
    "R&D",
    "a & b",
    "what? yes!",
    "5 > 3",
    "x.y-z",
]


def rendered_text(markdown: str) -> tuple[str, set[str]]:
    """What a reader sees of a line of Markdown, and the kinds of markup in it."""
    tokens = [child for token in PARSER.parse(markdown) for child in (token.children or [])]
    kinds = {token.type for token in PARSER.parse(markdown)} | {token.type for token in tokens}
    kinds -= {"paragraph_open", "paragraph_close", "inline", "text", "text_special"}
    return "".join(token.content for token in tokens), kinds


@pytest.mark.parametrize("text", MEAN)
def test_no_text_is_markup_and_a_reader_sees_its_characters(text):
    shown, kinds = rendered_text("x " + escaped(text))
    assert kinds == set()
    one_line = " ".join(text.split())
    if one_line.isprintable() and "\\" not in one_line:
        assert shown == f"x {one_line}"
    assert shown.isprintable()


@pytest.mark.parametrize("text", ORDINARY)
def test_ordinary_text_looks_as_it_is(text):
    assert escaped(text) == text
    assert rendered_text("x " + text)[0] == f"x {text}"


def test_names_keep_their_look():
    assert (
        link("facebook/bart-large-mnli")
        == "[facebook/bart-large-mnli](https://huggingface.co/facebook/bart-large-mnli)"
    )
    assert link("minibart") == named("minibart") == "`minibart`"
    assert "`" not in link("a`b`c").replace("\\`", "")


@pytest.mark.parametrize("text", [MEAN[place] for place in (0, 1, 2, 7, 10, 12, 15, 16)])
def test_mean_text_in_every_file_stays_text(tmp_path, text):
    plain, folder = tmp_path / "plain" / "model", tmp_path / "mean" / "model"
    finished_run(folder)
    finished_run(plain)
    write_model_card(plain)
    label = "".join(character for character in text if character.isprintable())  # others are refused in a label
    labels = {"id2label": {"0": label, "1": "neutral " + label, "2": "entailment"}, "label2id": None}
    config = json.loads((folder / "config.json").read_text()) | {"teacher_name_or_path": text, **labels}
    config |= {"distillation": [{"stage": "logits", "teacher": text, "loss": text}]}
    write_json(folder / "config.json", config)
    state = json.loads((folder / "trainer_state.json").read_text())
    run = dict.fromkeys(("hardware", "date", "license", "license_name", "license_link", "mixed_precision"), text)
    run |= {"versions": {text: text}, "tracker_urls": {text: "https://x.org/" + text}, "language": text}
    run["command"] = f"python run_glue.py --run_name '{text}' " + "--max_seq_length 128 " * 9
    write_json(folder / "trainer_state.json", state | {"run": state["run"] | run})
    arguments = json.loads((folder / "training_args.json").read_text())
    mean = {"data_dir": text, "model_name_or_path": text, "lr_scheduler_type": text, "metric_for_best_model": text}
    write_json(
        folder / "training_args.json", arguments | mean | {"load_best_model_at_end": True, "hub_model_id": None}
    )
    write_json(folder / "tradeoffs.json", {text: 1.5, "note": text, "devices": [{"device": text, text: 2}]})
    metadata, _ = write(folder)
    check_hub_rules(metadata)
    body = readme(folder).split("\n---\n", 1)[1]
    assert all(character.isprintable() or character == "\n" for character in body)
    allowed = {token.type for token in PARSER.parse(readme(plain).split("\n---\n", 1)[1])}
    found = PARSER.parse(body)
    assert {token.type for token in found} <= allowed | {"table_open", "thead_open", "code_block"}
    headings = [found[place + 1].content for place, token in enumerate(found) if token.type == "heading_open"]
    assert set(headings) - {"Size and speed"} <= set(re.findall(r"^#+ (.+)$", readme(plain), re.MULTILINE))
    links = [child.attrs["href"] for token in found for child in token.children or [] if child.type == "link_open"]
    assert not any("evil" in address or "javascript" in address for address in links if "x.org" not in address)
    before = readme(folder)
    write_model_card(folder)
    assert readme(folder) == before  # and no text passes for a marker of ours


ODD = [5, -1, [], ["x"], {"a": 1}, True, "text", None, [[1]], {"0": {"1": 2}}, 10**400, float("nan")]


@pytest.mark.parametrize("value", ODD, ids=[str(value)[:12] for value in ODD])
def test_a_value_of_another_type_is_left_out_and_never_a_traceback(student, value):
    for name in ("config", "training_args", "all_results", "trainer_state", "run"):
        path = student / f"{'trainer_state' if name == 'run' else name}.json"
        whole = path.read_text()
        values = json.loads(whole)
        odd = dict.fromkeys(values["run"] if name == "run" else values.keys() - {"id2label", "label2id"}, value)
        write_json(path, {**values, "run": odd} if name == "run" else odd)
        write_model_card(student)
        path.write_text(whole)


@pytest.mark.parametrize("value", [5, ["x", "x"], {"a": 1}, True, "text", {"0": {"1": 2}}, 10**400])
def test_a_damaged_label_map_is_one_line(student, value):
    config = json.loads((student / "config.json").read_text())
    write_json(student / "config.json", config | {"id2label": value, "label2id": value})
    with pytest.raises(InputError, match=r"config\.json") as caught:
        write_model_card(student)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["config.json", "all_results.json", "trainer_state.json", "tradeoffs.json"])
def test_a_file_that_is_no_json_object_is_one_line(student, name):
    for content in (b"", b"[]", b"\xff\xfe\x00", b"null", b"5", b"[" * 100_000):
        (student / name).write_bytes(content)
        with pytest.raises(InputError, match=name) as caught:
            write_model_card(student)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "name", ["README.md", "config.json", "tradeoffs.json", "eval_results_x.txt", "all_results.json"]
)
def test_what_a_link_leads_to_is_not_in_the_card(student, tmp_path, name):
    secret = tmp_path / "secret"
    secret.write_text('{"note": "PRIVATE", "eval_accuracy": 0.123456}' if name.endswith("json") else "PRIVATE = 1\n")
    before = secret.read_bytes()
    (student / name).unlink(missing_ok=True)
    (student / name).symlink_to(secret)
    write_model_card(student)
    assert not (student / "README.md").is_symlink() and secret.read_bytes() == before
    assert "PRIVATE" not in readme(student) and "12.35" not in readme(student)


# ---------------------------------------------------------------------------------------------------------------------
# The teacher's own card

LAUGHS = "a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"a{n}: &a{n} [{','.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 12)
)


def teacher_card(folder: Path, front: str) -> dict:
    folder.mkdir(exist_ok=True)
    (folder / "README.md").write_text(f"---\n{front}\n---\n# Teacher\n")
    return read_card(Source(str(folder), "teacher"))


@pytest.mark.parametrize(
    "front",
    [
        "license: 2020-10-01", "license: !!binary aGVsbG8=", "license: !!set {a, b}", "license: [mit]", "license: 5",
        "license: {a: b}", "license: !!python/object:os.system x", "license: &a [*a]", "? [a]\n: b", "[1, 2]",
        "license: !!timestamp 2020-10-01", "language: {en: 1}", "language: [1, 2]", "license: true",
    ],
)  # fmt: skip
def test_whatever_the_teacher_calls_its_license_the_run_can_be_written_down(tmp_path, student, front):
    found = teacher_card(tmp_path / "teacher", front)
    json.dumps(found)
    assert all(isinstance(value, str) for key, value in found.items() if key != "language")
    state = json.loads((student / "trainer_state.json").read_text())
    write_json(student / "trainer_state.json", state | {"run": state["run"] | {"license": None, **found}})
    metadata, _ = write(student)
    check_hub_rules(metadata)
    assert not isinstance(metadata.get("license"), datetime.date)


@pytest.mark.parametrize("front", [LAUGHS, "license: mit\n" + LAUGHS, "x: " + "[" * 2_000, "license: mit\n" * 20_000])
def test_a_bomb_in_a_card_costs_neither_time_nor_the_run(tmp_path, student, front):
    begin = time.process_time()
    assert teacher_card(tmp_path / "teacher", front).get("license") in (None, "mit")
    (student / "README.md").write_text(f"---\n{front}\n---\n# Mine\n")
    write_model_card(student)
    assert time.process_time() - begin < 20
    assert yaml.safe_load(readme(student).split("---\n")[1])["license"] == "mit"


def test_a_teachers_license_and_languages_come_along(tmp_path):
    front = "license: other\nlicense_name: terms\nlanguage: [en, no]\nextra: 2020-10-01"
    assert teacher_card(tmp_path / "teacher", front) == {
        "license": "other", "license_name": "terms", "language": ["en", "no"],
    }  # fmt: skip
