"""Whatever stands in a file of arguments or on the command line: options of the declared types, or a refusal.

Never a traceback, never another type in silence. And whatever the texts of a pair are: finite logits.
"""

import json
import math
import tempfile
import types
import typing
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from distilbart_mnli.data.batches import Collator, MicroBatch, Padding
from distilbart_mnli.data.splits import Split
from distilbart_mnli.data.tokens import tokenize
from distilbart_mnli.errors import InputError
from distilbart_mnli.model.bart import ShortCutBart
from distilbart_mnli.options.fields import Arguments
from distilbart_mnli.options.names import OLD_NAMES
from distilbart_mnli.options.read import parse_arguments
from tests.support.tiny import tiny_config, tiny_tokenizer

LEAST = {"model_name_or_path": "m", "task_name": "MNLI", "do_train": True, "output_dir": "out"}
TYPES = typing.get_type_hints(Arguments)
pytestmark = pytest.mark.slow
many = settings(max_examples=250, deadline=None, database=None, derandomize=True)
few = settings(max_examples=60, deadline=None, database=None, derandomize=True)

texts = st.one_of(
    st.text(max_size=12),
    st.text(st.characters(categories=["Cs", "Cc", "Nd"]), min_size=1, max_size=4),
    st.sampled_from(
        ["", "true", "no", "none", "null", "1", "-1", "1e3", "0x10", "1_0", "inf", "nan", " 5 ", "3.5", "٣"]
    ),
    st.sampled_from(
        ["linear", "steps", "epoch", "tensorboard,wandb", "warmup_stable_decay", "{}", "[1]", '{"a": NaN}']
    ),
)
numbers = st.one_of(
    st.integers(), st.floats(), st.sampled_from([10**400, -(10**400), 2**63, 2**53 - 1, 1e308, 0, 1, -1, 1.0])
)
scalars = st.one_of(st.none(), st.booleans(), numbers, texts)
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3), max_leaves=5
)
names = st.one_of(st.sampled_from([*TYPES, *OLD_NAMES]), texts)


def is_of(declared: typing.Any, value: typing.Any) -> bool:
    """Whether a value has an option's declared type: exactly, since bool is a kind of int to Python."""
    if typing.get_origin(declared) in (typing.Union, types.UnionType):
        return any(is_of(option, value) for option in typing.get_args(declared))
    if typing.get_origin(declared) is typing.Literal:
        return value in typing.get_args(declared)
    if type(value) is not declared:
        return False
    return not isinstance(value, float) or math.isfinite(value)


def check(argv: list[str]) -> bool:
    """Whether the options were taken; asserts that they are what they should be, or refused in one line."""
    try:
        args = parse_arguments(argv)
    except InputError as error:
        assert str(error) and "\n" not in str(error)
        str(error).encode("utf-8")
        return False
    for name, declared in TYPES.items():
        assert is_of(declared, getattr(args, name)), (name, getattr(args, name))
    json.dumps(vars(args), allow_nan=False).encode("utf-8")  # training_args.json can hold them
    return True


def check_text(text: str | bytes, ending: str) -> bool:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "args" + ending)
        path.write_bytes(text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass"))
        return check([str(path)])


@many
@given(st.dictionaries(names, values, max_size=3))
def test_any_json_value_for_any_key(changes):
    check_text(json.dumps({**LEAST, **changes}), ".json")


@pytest.mark.parametrize("name", TYPES)
@settings(max_examples=15, deadline=None, database=None, derandomize=True)
@given(value=values)
def test_any_value_for_each_option_has_its_type_or_is_refused(name, value):
    """Every option by name, so that none is left to chance."""
    check_text(json.dumps({**LEAST, name: value}), ".json")


@many
@given(st.dictionaries(names, values, max_size=2))
def test_any_yaml_value_for_any_key(changes):
    try:
        text = yaml.safe_dump({**LEAST, **changes}, allow_unicode=True)
    except ValueError:  # Python does not write integers of more than 4,300 digits
        return
    check_text(text, ".yaml")


pieces = st.sampled_from(
    [
        *"{}[]:,\"'\n\t -&*!|>?#%@`",
        "seed",
        "do_train",
        "&a",
        "*a",
        "!!binary",
        "!!set",
        "<<: ",
        "---\n",
        "...\n",
        "1:30",
    ]
)


@many
@given(st.lists(st.one_of(pieces, st.text(max_size=3)), max_size=25).map("".join), st.sampled_from([".json", ".yaml"]))
@example("seed: &a [*a]", ".yaml")
@example("lr_scheduler_kwargs: &a {a: *a}", ".yaml")
@example("seed: 0x" + "f" * 6000, ".yaml")
@example("seed: " + "9" * 6000, ".yaml")
@example('{"seed": ' + "9" * 6000 + "}", ".json")
@example('{"seed": ' + "[" * 100_000, ".json")
@example("seed: " + "[" * 3000, ".yaml")
@example("? [a]\n: 1", ".yaml")
@example("seed: 2020-13-45", ".yaml")
@example("!!python/object/apply:os.system [exit 1]", ".yaml")
def test_any_text_as_a_file(text, ending):
    check_text(text, ending)


@few
@given(st.binary(max_size=40), st.sampled_from([".json", ".yaml", ""]))
def test_any_bytes_as_a_file(data, ending):
    check_text(data, ending)


words = st.one_of(
    st.sampled_from([f"--{name}" for name in TYPES] + [f"--no_{name}" for name in TYPES] + ["--", "-x", "="]),
    texts.filter(lambda text: "\0" not in text),  # no command line can hold it
    st.tuples(st.sampled_from(list(TYPES)), texts).map(lambda pair: f"--{pair[0]}={pair[1]}"),
)


@many
@given(st.lists(words.filter(lambda word: word not in ("-h", "--help")), max_size=4))
def test_any_words_on_the_command_line(given_words):
    check([*(word for key, value in LEAST.items() for word in (f"--{key}", str(value))), *given_words])


def test_the_least_options_are_taken():
    """Guards the tests above: refusing everything would pass them."""
    assert check_text(json.dumps(LEAST), ".json") and check_text(yaml.safe_dump(LEAST), ".yaml")


@pytest.mark.parametrize(
    ("text", "value"), [("1:30", None), ("010", 10), ("0x10", None), ("1e2", 100), ("+7", 7), ("7.0", 7), (".5", None)]
)
def test_a_number_in_yaml_is_the_number_it_looks_like(tmp_path, text, value):
    path = tmp_path / "args.yaml"
    path.write_text(yaml.safe_dump(LEAST) + f"seed: {text}\n")
    if value is None:
        with pytest.raises(InputError, match="seed must be a whole number"):
            parse_arguments([str(path)])
    else:
        assert parse_arguments([str(path)]).seed == value


# ---------------------------------------------------------------------------------------------------------------------
# Pairs


@pytest.fixture(scope="module")
def reader(tmp_path_factory):
    """Logits of a list of pairs, in batches of the given rows."""
    import datasets

    torch.manual_seed(0)
    model = ShortCutBart(tiny_config()).eval()
    tokenizer = tiny_tokenizer()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path_factory.mktemp("datasets")))

        def logits(pairs: list[tuple[str, str]], rows: list[list[int]]) -> np.ndarray:
            first, second = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
            split = tokenize(Split("pairs", first, second, None, "here"), tokenizer, 48)
            assert split.lengths.min() >= 4 and split.lengths.max() <= 48  # <s> </s></s> </s>
            ends = split.ids[split.offsets[1:] - 1]
            assert (ends == model.config.eos_token_id).all()
            collate = Collator(split, model.config.pad_token_id, Padding(48))
            found = np.zeros((len(pairs), 3), np.float32)
            for batch in rows:
                tensors = collate(MicroBatch(np.array(batch), np.ones(len(batch), np.float32)))
                with torch.no_grad():
                    found[batch] = model(tensors["input_ids"], tensors["attention_mask"]).numpy()
            return found

        yield logits


# Any text that UTF-8 can hold, with what means something to the tokenizer in between.
pair_text = st.lists(
    st.one_of(
        st.text(st.characters(exclude_categories=["Cs"]), max_size=8),
        st.sampled_from(["</s>", "<s>", "<pad>", "<unk>", "<mask>", " ", "\0", "\ufeff", "a cat " * 40, "\r\n", "🙂"]),
    ),
    max_size=5,
).map("".join)


@few
@given(pairs=st.lists(st.tuples(pair_text, pair_text), min_size=1, max_size=4))
@example(pairs=[("", "")])
@example(pairs=[("a </s> cat", "</s>"), ("<pad><pad>", "a"), ("</s></s></s>", "<s>"), ("a", "<mask>")])
def test_any_pair_has_finite_logits_whatever_its_neighbours_are(reader, pairs):
    alone = reader(pairs, [[row] for row in range(len(pairs))])
    together = reader(pairs, [list(range(len(pairs)))])
    assert np.isfinite(together).all()
    np.testing.assert_allclose(together, alone, rtol=1e-4, atol=1e-5)
