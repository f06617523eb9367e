"""A student holds the teacher's tensors at the kept layers and everything else of the teacher, as a stock model.

References: the teacher's own state dict, stock transformers reading the saved folder, and a stock model with its layer
list cut by hand.
"""

import json
import pickle
from pathlib import Path

import pytest
import torch
from huggingface_hub import ModelCard
from torch import nn
from transformers import AutoModelForSequenceClassification, AutoTokenizer, BertConfig, pipeline

import distilbart_mnli.model.student
from distilbart_mnli.errors import HubError, InputError, RunError
from distilbart_mnli.model.layers import KEPT_LAYERS
from distilbart_mnli.model.student import copy_layers, count_parameters, create_student
from tests.support.tiny import tiny_bart, tiny_tokenizer


def everything_in(folder: Path) -> dict[str, bytes | None]:
    return {str(p.relative_to(folder)): p.read_bytes() if p.is_file() else None for p in folder.rglob("*")}


@pytest.fixture(scope="module")
def shared_teacher(tmp_path_factory):
    """A teacher of 6 + 6 layers whose three labels have an order of their own."""
    folder = tmp_path_factory.mktemp("teachers") / "teacher-6-6"
    tiny_bart(folder, encoder_layers=6, decoder_layers=6, labels=("neutral", "Entailment", "contradiction"))
    return folder


@pytest.fixture
def teacher(shared_teacher, tmp_path):
    """The same, in the test's own folder, so that "nothing was written" can be asked of all of it."""
    folder = tmp_path / "in" / shared_teacher.name
    folder.mkdir(parents=True)
    for file in shared_teacher.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    return folder


def assert_refused(tmp_path, told, error=InputError, **arguments):
    before = everything_in(tmp_path)
    with pytest.raises(error, match=told) as raised:
        create_student(**arguments)
    assert "\n" not in str(raised.value)
    assert everything_in(tmp_path) == before


# ---- what is copied


@pytest.mark.parametrize("depth", sorted(KEPT_LAYERS))
def test_every_table_entry_gives_the_teachers_tensors_at_the_kept_layers(depth):
    teacher = tiny_bart(encoder_layers=depth, decoder_layers=depth)
    wanted = teacher.state_dict()
    for number, kept in KEPT_LAYERS[depth].items():
        # The encoder gets the row's layers too: the tables hold for both stacks.
        student = copy_layers(teacher, kept, kept)
        assert (student.config.encoder_layers, student.config.decoder_layers) == (number, number)
        for stack in ("encoder", "decoder"):
            layers = getattr(student.model, stack).layers
            assert len(layers) == number
            for layer, index in zip(layers, kept, strict=True):
                for name, tensor in layer.state_dict().items():
                    assert torch.equal(tensor, wanted[f"model.{stack}.layers.{index}.{name}"])
        for name, tensor in student.state_dict().items():
            if ".layers." not in name:
                assert torch.equal(tensor, wanted[name])


@pytest.mark.parametrize("order", [[0, 2, 5], [5, 0, 2]])
def test_the_saved_student_computes_what_the_teacher_with_its_layer_list_cut_by_hand_computes(
    teacher, tmp_path, order
):
    create_student(str(teacher), tmp_path / "student", encoder_layer_ids=[1, 4], decoder_layer_ids=order)
    cut = AutoModelForSequenceClassification.from_pretrained(teacher).eval()
    cut.model.encoder.layers = nn.ModuleList([cut.model.encoder.layers[index] for index in (1, 4)])
    cut.model.decoder.layers = nn.ModuleList([cut.model.decoder.layers[index] for index in order])
    student = AutoModelForSequenceClassification.from_pretrained(tmp_path / "student").eval()
    batch = tiny_tokenizer()("the dog eats in the garden", "a bird sees the house", return_tensors="pt")
    with torch.inference_mode():
        assert torch.equal(student(**batch).logits, cut(**batch, use_cache=False).logits)


def test_a_stack_that_is_not_mentioned_is_kept_whole(teacher, tmp_path):
    student = create_student(str(teacher), tmp_path / "student", decoder_layers=3).model
    assert student.config.encoder_layer_ids == [0, 1, 2, 3, 4, 5]
    assert student.config.decoder_layer_ids == [0, 2, 5]


def test_parameters_are_counted_once_though_three_tables_share_them(teacher, tmp_path):
    student = create_student(str(teacher), tmp_path / "student", encoder_layers=1, decoder_layers=1).model
    # By hand: table 400 x 16; two position tables (128 + 2) x 16; two embedding norms; layers; head 16 -> 16 -> 3.
    attention, norm, feed_forward = 4 * (16 * 16 + 16), 2 * 16, 16 * 32 + 32 + 32 * 16 + 16
    encoder, decoder = attention + feed_forward + 2 * norm, 2 * attention + feed_forward + 3 * norm
    head = 16 * 16 + 16 + 16 * 3 + 3
    assert count_parameters(student) == 400 * 16 + 2 * 130 * 16 + 2 * norm + encoder + decoder + head


# ---- what is saved


def test_the_saved_student_is_a_stock_model_with_the_teachers_labels_and_its_provenance(teacher, tmp_path):
    folder = tmp_path / "new" / "nested" / "student-6-3"
    create_student(str(teacher), folder, encoder_layers=6, decoder_layers=3)
    assert sorted(path.name for path in folder.iterdir()) == [
        "README.md",
        "config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    ]
    assert [path.name for path in folder.parent.iterdir()] == ["student-6-3"]
    config = json.loads((folder / "config.json").read_text())
    theirs = json.loads((teacher / "config.json").read_text())
    assert config["architectures"] == ["BartForSequenceClassification"]
    assert config.pop("teacher_name_or_path") == "teacher-6-6"
    assert config.pop("encoder_layer_ids") == [0, 1, 2, 3, 4, 5]
    assert config.pop("decoder_layer_ids") == [0, 2, 5]
    assert config == {**theirs, "decoder_layers": 3}
    assert config["label2id"] == {"neutral": 0, "Entailment": 1, "contradiction": 2}
    assert str(tmp_path).encode() not in b"".join(path.read_bytes() for path in folder.iterdir())
    assert len({path.stat().st_mode for path in folder.iterdir()}) == 1
    again, ours = AutoTokenizer.from_pretrained(folder), tiny_tokenizer()
    assert again("a dog", "not a bird")["input_ids"] == ours("a dog", "not a bird")["input_ids"]


def test_the_zero_shot_pipeline_loads_the_student(teacher, tmp_path):
    create_student(str(teacher), tmp_path / "student", decoder_layers=1)
    classify = pipeline("zero-shot-classification", model=str(tmp_path / "student"))
    result = classify("the dog eats", candidate_labels=["dog", "house", "bird"])
    assert sorted(result["labels"]) == ["bird", "dog", "house"]
    assert sum(result["scores"]) == pytest.approx(1)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_the_teachers_dtype_is_kept(tmp_path, dtype):
    tiny_bart().to(dtype).save_pretrained(tmp_path / "teacher")
    tiny_tokenizer(tmp_path / "teacher")
    student = create_student(str(tmp_path / "teacher"), tmp_path / "student", decoder_layers=1)
    assert json.loads((tmp_path / "student" / "config.json").read_text())["dtype"] == str(dtype)[6:]
    saved = AutoModelForSequenceClassification.from_pretrained(tmp_path / "student")
    assert {tensor.dtype for tensor in saved.state_dict().values()} == {dtype}
    assert f"in {str(dtype)[6:]}" in student.summary
    # 1 MB = 10^6 bytes, of each parameter once
    assert f"{count_parameters(saved) * dtype.itemsize / 1e6:,.1f} MB" in student.summary


def test_a_student_can_be_the_teacher_of_the_next(teacher, tmp_path):
    create_student(str(teacher), tmp_path / "six-four", decoder_layers=4)  # 0 1 3 5
    create_student(str(tmp_path / "six-four"), tmp_path / "six-two", decoder_layer_ids=[2, 3])
    config = json.loads((tmp_path / "six-two" / "config.json").read_text())
    assert (config["teacher_name_or_path"], config["decoder_layer_ids"]) == ("six-four", [2, 3])
    first = AutoModelForSequenceClassification.from_pretrained(teacher).model.decoder.layers
    last = AutoModelForSequenceClassification.from_pretrained(tmp_path / "six-two").model.decoder.layers
    for layer, origin in zip(last, (first[3], first[5]), strict=True):
        for name, tensor in layer.state_dict().items():
            assert torch.equal(tensor, origin.state_dict()[name])


def test_the_configuration_of_2020_with_its_old_keys_is_read(teacher, tmp_path):
    """facebook/bart-large-mnli still carries keys of transformers 3, among them num_hidden_layers, which means the
    encoder's layers; left in a student's config.json it would overrule encoder_layers."""
    config = json.loads((teacher / "config.json").read_text())
    config.pop("dtype")
    old = {"num_hidden_layers": 6, "classif_dropout": 0.0, "_num_labels": 3, "gradient_checkpointing": False}
    (teacher / "config.json").write_text(json.dumps({**config, **old, "normalize_before": False}))
    create_student(str(teacher), tmp_path / "student", encoder_layers=2, decoder_layers=1)
    model = AutoModelForSequenceClassification.from_pretrained(tmp_path / "student")
    assert (len(model.model.encoder.layers), len(model.model.decoder.layers)) == (2, 1)


# ---- the card


def test_the_card_carries_license_and_language_of_the_teachers_card_and_no_base_model_of_a_folder(teacher, tmp_path):
    (teacher / "README.md").write_text(
        "---\nlicense: mit\nlanguage: [en, de]\nbase_model: some/one\n---\n\n# Teacher\n"
    )
    create_student(str(teacher), tmp_path / "student", encoder_layers=6, decoder_layers=3)
    card = ModelCard.load(tmp_path / "student" / "README.md")
    assert card.data.to_dict() == {
        "language": ["en", "de"],
        "license": "mit",
        "library_name": "transformers",
        "pipeline_tag": "zero-shot-classification",
        "tags": ["distilbart", "distilbart-mnli"],
    }
    assert "not fine-tuned" in card.text
    assert "| decoder | 0, 2, 5 |" in card.text
    assert "neutral, Entailment, contradiction" in card.text


@pytest.mark.parametrize("readme", [None, "# no metadata", "---\n: [broken\n---\n", "---\n- a list\n---\n", "\udcff"])
def test_a_teacher_without_a_readable_card_gives_a_card_without_a_license(teacher, tmp_path, readme):
    if readme is not None:
        (teacher / "README.md").write_bytes(readme.encode("utf-8", "surrogateescape"))
    create_student(str(teacher), tmp_path / "student", decoder_layers=1)
    assert "license" not in ModelCard.load(tmp_path / "student" / "README.md").data.to_dict()


# ---- where it is written


def test_overwrite_replaces_a_model_and_leaves_nothing_of_it(teacher, tmp_path):
    folder = tmp_path / "student"
    create_student(str(teacher), folder, decoder_layers=3)
    (folder / "all_results.json").write_text("{}")
    create_student(str(teacher), folder, decoder_layers=1, overwrite=True)
    assert json.loads((folder / "config.json").read_text())["decoder_layers"] == 1
    assert not (folder / "all_results.json").exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "student"]


def test_overwrite_keeps_the_old_model_when_the_new_one_does_not_read_back(teacher, tmp_path, monkeypatch):
    folder = tmp_path / "student"
    create_student(str(teacher), folder, decoder_layers=3)

    def damaged(folder, model):
        raise RunError("the saved student gives logits that are not finite")

    monkeypatch.setattr(distilbart_mnli.model.student, "verify_student", damaged)
    arguments = {"teacher_name_or_path": str(teacher), "save_path": folder, "decoder_layers": 1, "overwrite": True}
    assert_refused(tmp_path, "not finite", RunError, **arguments)


def test_nothing_is_left_when_the_disk_fills_up(teacher, tmp_path, monkeypatch):
    def full(self, folder, **options):
        (Path(folder) / "model.safetensors").write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("transformers.BartForSequenceClassification.save_pretrained", full)
    arguments = {"teacher_name_or_path": str(teacher), "save_path": tmp_path / "a" / "b", "decoder_layers": 1}
    assert_refused(tmp_path, "No space left", RunError, **arguments)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ({"notes.txt": "mine"}, "no config.json of a model"),
        ({"config.json": "{}", "model.safetensors": ""}, "no config.json of a model"),
        ({"config.json": '{"model_type": "bart"}'}, "no weights"),
        ({"config.json": '{"model_type": "bart"}', "model.safetensors": "", "work/notes.txt": "mine"}, "work"),
    ],
)
def test_overwrite_refuses_to_delete_what_does_not_look_like_a_model(teacher, tmp_path, content, told):
    folder = tmp_path / "precious"
    for name, text in content.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    arguments = {"teacher_name_or_path": str(teacher), "save_path": folder, "decoder_layers": 1}
    assert_refused(tmp_path, "not empty", **arguments)
    assert_refused(tmp_path, told, **arguments, overwrite=True)


def test_the_teacher_is_never_replaced_by_its_student(teacher, tmp_path):
    arguments = {"teacher_name_or_path": str(teacher), "decoder_layers": 1, "overwrite": True}
    assert_refused(tmp_path, "holds the teacher", save_path=teacher, **arguments)
    assert_refused(tmp_path, "holds the teacher", save_path=teacher.parent, **arguments)


def test_a_save_path_that_is_a_file_or_lies_under_one_or_is_the_current_folder_is_refused(
    teacher, tmp_path, monkeypatch
):
    (tmp_path / "file").write_text("mine")
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    arguments = {"teacher_name_or_path": str(teacher), "decoder_layers": 1}
    assert_refused(tmp_path, "is a file", save_path=tmp_path / "file", **arguments)
    assert_refused(tmp_path, "file is a file", save_path=tmp_path / "file" / "a" / "b", **arguments)
    assert_refused(tmp_path, "current folder", save_path=".", **arguments)


def test_a_folder_that_cannot_be_made_is_bad_input(teacher, tmp_path):
    # Even root cannot make a folder in /proc, which says it is writable.
    arguments = {"teacher_name_or_path": str(teacher), "decoder_layers": 1}
    assert_refused(tmp_path, "cannot be written|not writable", save_path="/proc/student", **arguments)


# ---- teachers that cannot be used


@pytest.mark.parametrize(
    ("layers", "told"),
    [
        ({"decoder_layers": 7}, "decoder: the teacher has 6 layers.*keep 7"),
        ({"encoder_layers": 0}, "encoder: .* at least 1 layer, not 0"),
        ({"decoder_layer_ids": [0, 6]}, "decoder_layer_ids: there is no layer 6"),
        ({"encoder_layer_ids": [-1]}, "encoder_layer_ids: there is no layer -1"),
        ({"decoder_layer_ids": [0, 0]}, "more than once"),
        ({"decoder_layer_ids": [0, 1], "decoder_layers": 3}, "student_decoder_layers is 3.*names 2"),
    ],
)
def test_layers_that_do_not_fit_the_teacher_are_refused(teacher, tmp_path, layers, told):
    assert_refused(tmp_path, told, teacher_name_or_path=str(teacher), save_path=tmp_path / "student", **layers)


def edit_config(folder: Path, **changes):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **changes}))


def test_a_model_of_another_kind_is_refused_by_name(teacher, tmp_path):
    arguments = {"teacher_name_or_path": str(teacher), "save_path": tmp_path / "student", "decoder_layers": 1}
    edit_config(teacher, architectures=["BartForConditionalGeneration"])
    assert_refused(tmp_path, "is BartForConditionalGeneration .model type bart.; only BART", **arguments)
    edit_config(teacher, architectures=None)
    assert_refused(tmp_path, "is no architecture", **arguments)
    BertConfig(architectures=["BertForSequenceClassification"]).save_pretrained(teacher)
    assert_refused(tmp_path, "is BertForSequenceClassification .model type bert.", **arguments)
    edit_config(teacher, model_type="of-our-own", auto_map={"AutoConfig": "code.Config"})
    assert_refused(tmp_path, "model type of-our-own", **arguments)


def test_a_damaged_teacher_is_refused_with_what_is_wrong(teacher, tmp_path):
    arguments = {"teacher_name_or_path": str(teacher), "save_path": tmp_path / "student", "decoder_layers": 1}
    good = {path.name: path.read_bytes() for path in teacher.iterdir()}

    def with_files(**changes):
        for path in teacher.iterdir():
            path.unlink()
        for name, content in {**good, **changes}.items():
            if content is not None:
                (teacher / name).write_bytes(content)

    with_files(**{"config.json": None})
    assert_refused(tmp_path, "no config.json", **arguments)
    with_files(**{"config.json": b"{"})
    assert_refused(tmp_path, "config.json", **arguments)
    with_files(**{"config.json": b"[1]"})
    assert_refused(tmp_path, "cannot be read", **arguments)
    with_files(**{"model.safetensors": None})
    assert_refused(tmp_path, "cannot be read", **arguments)
    with_files(**{"model.safetensors": good["model.safetensors"][:-8]})
    assert_refused(tmp_path, "cannot be read", **arguments)
    with_files(**{"tokenizer.json": None, "tokenizer_config.json": None})
    assert_refused(tmp_path, "no tokenizer", **arguments)
    with_files()
    edit_config(teacher, decoder_layers=8)
    assert_refused(tmp_path, "incomplete: .*missing, the first is model.decoder.layers.6", **arguments)
    with_files()
    edit_config(teacher, decoder_ffn_dim=48)
    assert_refused(tmp_path, "cannot be read", **arguments)
    with_files()
    edit_config(teacher, decoder_layers="six")
    assert_refused(tmp_path, "teacher-6-6: ", **arguments)
    with_files()
    edit_config(teacher, vocab_size=100)
    assert_refused(tmp_path, "do not belong together", **arguments)


def test_a_teacher_with_nan_weights_gives_no_student(tmp_path):
    teacher = tiny_bart()
    teacher.model.decoder.layers[0].fc1.weight.data[0, 0] = float("nan")
    teacher.save_pretrained(tmp_path / "teacher")
    tiny_tokenizer(tmp_path / "teacher")
    arguments = {"teacher_name_or_path": str(tmp_path / "teacher"), "save_path": tmp_path / "s", "decoder_layers": 1}
    assert_refused(tmp_path, "fc1.weight .or the teacher holds NaN", RunError, **arguments)


def test_a_teacher_that_is_nowhere_is_refused_in_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    (tmp_path / "file").write_text("")
    for name, told in (
        ("some-body/bart-of-nobody", "no such folder here, and not in the Hub's cache"),
        ("./no/such/folder", "no such folder, and it is not a name on the Hub"),
        ("no such name", "no such folder, and it is not a name on the Hub"),
        (str(tmp_path / "file"), "is a file"),
    ):
        arguments = {"teacher_name_or_path": name, "save_path": tmp_path / "student", "decoder_layers": 1}
        assert_refused(tmp_path, told, **arguments)


def test_a_hub_that_cannot_be_reached_is_the_hubs_fault(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")  # nobody listens on "discard"
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    monkeypatch.setattr("time.sleep", lambda seconds: None)  # the client's pauses between its attempts
    arguments = {"teacher_name_or_path": "some-body/bart-of-nobody", "save_path": tmp_path / "s", "decoder_layers": 1}
    assert_refused(tmp_path, "the Hub cannot be reached", HubError, **arguments)


# ---- weights in the form of 2020


def test_weights_stored_as_pytorch_model_bin_are_read(tmp_path):
    model = tiny_bart()
    model.config.save_pretrained(tmp_path / "teacher")
    tiny_tokenizer(tmp_path / "teacher")
    torch.save(model.state_dict(), tmp_path / "teacher" / "pytorch_model.bin")
    (tmp_path / "teacher" / "config.json").write_text(
        json.dumps({**model.config.to_dict(), "architectures": ["BartForSequenceClassification"]})
    )
    create_student(str(tmp_path / "teacher"), tmp_path / "student", decoder_layers=1)
    saved = AutoModelForSequenceClassification.from_pretrained(tmp_path / "student").state_dict()
    assert all(torch.equal(saved[name], model.state_dict()[name]) for name in saved)


class Payload:
    def __init__(self, proof: Path):
        self.proof = proof

    def __reduce__(self):
        return Path.touch, (self.proof,)


@pytest.mark.parametrize("form", ["zip", "bare pickle"])
def test_a_payload_in_pytorch_model_bin_does_not_run(tmp_path, form):
    teacher, proof = tmp_path / "teacher", tmp_path / "it-ran"
    tiny_bart(teacher)
    (teacher / "model.safetensors").unlink()
    if form == "zip":
        torch.save({"model.shared.weight": Payload(proof)}, teacher / "pytorch_model.bin")
    else:
        (teacher / "pytorch_model.bin").write_bytes(pickle.dumps({"model.shared.weight": Payload(proof)}))
    pickle.loads(pickle.dumps(Payload(proof)))
    assert proof.exists(), "the payload would work"
    proof.unlink()
    arguments = {"teacher_name_or_path": str(teacher), "save_path": tmp_path / "student", "decoder_layers": 1}
    assert_refused(tmp_path, "not loaded|cannot be read", **arguments)
    assert not proof.exists()
