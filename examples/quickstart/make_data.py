"""A small world in which natural language inference can be learnt from nothing in seconds, in MNLI's file layout.

    python -m examples.quickstart.make_data --output_dir outputs/quickstart [--seed 0]

writes data/train.tsv, data/dev_matched.tsv, data/dev_mismatched.tsv, and teacher-config/: the configuration and the
tokenizer of a teacher that is still to be trained (run_glue.py's config_name).

A premise tells an event and perhaps its topic, place and time: "Today at dawn Ann sells violins". A hypothesis is
about one of the three, and its label follows from what the premise says about it:

    entailment      the premise names an instance: "It is about music", "It is early"
    contradiction   it names an instance of another value: "It is late", or the hypothesis denies it: "It is not early"
    neutral         it is silent: "It is outdoors"

All else is drawn alike for the three labels. There are three genres, that is, orders of telling: train.tsv and
dev_matched.tsv hold the first two, dev_mismatched.tsv the third.
"""

import sys
from pathlib import Path

import numpy as np
from transformers import BartConfig

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from distilbart_mnli.command_line import OneLineParser
from distilbart_mnli.errors import InputError, run_command
from examples.quickstart.make_tokenizer import make_tokenizer

LABELS = ("entailment", "neutral", "contradiction")
COLUMNS = (
    "index promptID pairID genre sentence1_binary_parse sentence2_binary_parse sentence1_parse sentence2_parse "
    "sentence1 sentence2 label1 gold_label"
).split()
SIZES = {"train": 6000, "dev_matched": 600, "dev_mismatched": 600}
GENRES = {"train": ("news", "diary"), "dev_matched": ("news", "diary"), "dev_mismatched": ("letter",)}

# fact -> value -> how a premise says it. The texts are short, because attention learns soonest among few tokens.
FACTS = {
    "topic": {"music": ["violins", "guitars"], "cooking": ["soup", "pizza"], "travel": ["maps", "planes"]},
    "place": {"indoors": ["at home", "at work"], "outdoors": ["at sea", "at camp"]},
    "time": {"early": ["at dawn", "at breakfast"], "late": ["at midnight", "at dinner"]},
}
# Which fact a hypothesis is about. A topic has three values, so it takes more examples than the others.
ABOUT = ["topic", "topic", "place", "time"]
# How often the first value of a fact is the true one. Were all values as frequent, neither text alone would tell
# anything about the label: only their product would, and gradient descent is slow to find a product of which no
# factor helps (Abbe et al., arXiv 2202.08658). In trials a teacher then stayed at 67 % for 200 steps, now for 50.
USUAL = 0.65
# How often a hypothesis has "not". No entailed one has: "not late" for "at dawn" would be a product of three.
NEGATED = {"entailment": 0.0, "neutral": 0.3, "contradiction": 0.3}
PEOPLE = ["Ann", "Tom", "Eve", "Max"]
VERBS = ["buys", "sells", "finds", "loses"]
# Words that shift all others, so that what is learnt does not depend on the place of a word.
OPENINGS = ["", "today", "and today", "oh and today"]


class Grammar:
    """Draws examples; all randomness comes from one generator, so a seed gives the same files everywhere."""

    def __init__(self, seed: int):
        self.rng = np.random.default_rng(seed)

    def pick(self, options):
        return list(options)[int(self.rng.integers(len(options)))]

    def chance(self, probability: float = 0.5) -> bool:
        return bool(self.rng.random() < probability)

    def value(self, fact: str) -> str:
        usual, *others = FACTS[fact]
        return usual if self.chance(USUAL) else self.pick(others)

    def example(self, label: str, genre: str) -> tuple[str, str]:
        """A premise of `genre` and a hypothesis for which `label` is true."""
        about = self.pick(ABOUT)
        truth = {fact: self.value(fact) for fact in FACTS}
        said = [fact for fact in FACTS if (label != "neutral" if fact == about else self.chance())]
        negated = self.chance(NEGATED[label])
        if label == "neutral":
            claim = self.pick(FACTS[about])
        elif label == "entailment" or negated:
            claim = truth[about]
        else:
            claim = self.pick([value for value in FACTS[about] if value != truth[about]])
        hypothesis = f"It is {'not ' * negated}{'about ' * (about == 'topic')}{claim}"
        return self.premise({fact: self.pick(FACTS[fact][truth[fact]]) for fact in said}, genre), hypothesis

    def premise(self, said: dict[str, str], genre: str) -> str:
        """`said`: fact -> its words."""
        core = f"{self.pick(PEOPLE)} {self.pick(VERBS)} {said.pop('topic', 'something')}"
        details = [said[fact] for fact in self.rng.permutation(sorted(said))]
        # Details before the core. Now and then a diary has both there, as a letter always does.
        before = {"news": 0, "diary": 2 if self.chance(0.25) else 1, "letter": 2}[genre]
        text = " ".join([self.pick(OPENINGS), *details[:before], core, *details[before:]]).strip()
        return text[0].upper() + text[1:]


def make_examples(sizes: dict[str, int], seed: int = 0) -> dict[str, list[tuple[str, str, str, str]]]:
    """file name -> rows of (genre, premise, hypothesis, label). No pair of sentences comes twice in all of them."""
    grammar, seen = Grammar(seed), set()
    files: dict[str, list[tuple[str, str, str, str]]] = {}
    # The development files come first: they stay the same when the training file grows.
    for name in ("dev_matched", "dev_mismatched", "train"):
        rows = files[name] = []
        tries = 0
        while len(rows) < sizes[name]:
            tries += 1
            if tries > 50 * sizes[name]:
                raise InputError(f"{name}: the grammar has no {sizes[name]} different pairs; ask for fewer rows")
            label, genre = LABELS[len(rows) % 3], grammar.pick(GENRES[name])
            pair = grammar.example(label, genre)
            if pair not in seen:
                seen.add(pair)
                rows.append((genre, *pair, label))
        rows[:] = [rows[index] for index in grammar.rng.permutation(len(rows))]
    return files


def write_data(folder: Path, sizes: dict[str, int], seed: int = 0) -> list[str]:
    """train.tsv, dev_matched.tsv and dev_mismatched.tsv with MNLI's columns; returns the texts of the first."""
    folder.mkdir(parents=True, exist_ok=True)
    examples = make_examples(sizes, seed)
    for name, rows in examples.items():
        lines = ["\t".join(COLUMNS)]
        for index, (genre, premise, hypothesis, label) in enumerate(rows):
            ids = [str(index), str(index), f"{index}{label[0]}", genre]
            lines.append("\t".join([*ids, "", "", "", "", premise, hypothesis, label, label]))
        (folder / f"{name}.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return [text for _, premise, hypothesis, _ in examples["train"] for text in (premise, hypothesis)]


def write_teacher_config(folder: Path, texts: list[str]) -> None:
    """What run_glue.py's config_name needs to train a teacher from nothing: sizes, and a tokenizer for `texts`."""
    tokenizer = make_tokenizer(texts, vocab_size=500)
    labels = ("contradiction", "neutral", "entailment")  # the order of facebook/bart-large-mnli
    BartConfig(
        vocab_size=len(tokenizer),
        d_model=32,
        encoder_layers=2,
        decoder_layers=3,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=64,
        decoder_ffn_dim=64,
        max_position_embeddings=64,
        dropout=0.0,
        attention_dropout=0.0,
        classifier_dropout=0.0,
        # 0.85 / sqrt(d_model): a layer changes its input by about as much as the input is. With BART's 0.02 one as
        # narrow as this passes its input on, and leaving it out would do no harm.
        init_std=0.15,
        id2label=dict(enumerate(labels)),
        label2id={label: index for index, label in enumerate(labels)},
        architectures=["BartForSequenceClassification"],
    ).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def main() -> None:
    parser = OneLineParser(prog="python -m examples.quickstart.make_data", description=__doc__)
    parser.add_argument("--output_dir", type=Path, required=True, metavar="FOLDER", help="data/ and teacher-config/")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of the rows (default: 0)")
    args = parser.parse_args()
    folder = args.output_dir.expanduser()
    write_teacher_config(folder / "teacher-config", write_data(folder / "data", SIZES, args.seed))
    print(f"{folder / 'data'}: " + ", ".join(f"{name}.tsv {size} rows" for name, size in SIZES.items()))


if __name__ == "__main__":
    sys.exit(run_command(main))
