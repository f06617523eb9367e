"""The same student with new decoder layers: what do the copied ones bring?

    python -m examples.questions.fresh_student --student student-6-3 --seed 1 --save_path student-6-3-fresh

Replaced: every weight of every decoder layer (self-attention, cross-attention, feed-forward and their layer norms), by
what stock transformers gives a new model of this configuration: normal with standard deviation `init_std`, biases 0,
layer norms 1 and 0. Kept, bit for bit: the encoder, the token and position tables, the layer norm after the decoder's
embeddings, and the classification head.
"""

import sys
from pathlib import Path

import torch
from transformers import BartConfig, BartForSequenceClassification

from distilbart_mnli.command_line import OneLineParser, set_up_logging
from distilbart_mnli.errors import run_command
from distilbart_mnli.model.pretrained import read_tokenizer, read_weights
from distilbart_mnli.model.source import Source
from distilbart_mnli.model.student import check_save_path, save_model


def renew_decoder_layers(student: BartForSequenceClassification, seed: int) -> None:
    """Give `student` new decoder layers in place, in its own dtype. The caller's random state is left alone."""
    config = BartConfig.from_dict(student.config.to_dict())
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        new = BartForSequenceClassification(config).model.decoder.layers.to(student.dtype)
    student.model.decoder.layers.load_state_dict(new.state_dict())
    # These layers are nobody's: the ids that create_student.py recorded no longer hold.
    student.config.decoder_layer_ids = None


def make_fresh_student(student: str, save_path: Path, seed: int) -> int:
    """Read the student, renew its decoder layers, save it with its tokenizer; returns the number of decoder layers.

    Raises:
        InputError: no BART classifier in `student`, or save_path is not a new or an empty folder.
        RunError: the disk is full.
    """
    check_save_path(save_path, student)
    source = Source(student, "student")
    model = read_weights(source, BartForSequenceClassification, dtype="auto")
    renew_decoder_layers(model, seed)
    save_model(model, read_tokenizer(source), save_path)
    return model.config.decoder_layers


def main() -> None:
    parser = OneLineParser(prog="python -m examples.questions.fresh_student", description=__doc__)
    parser.add_argument("--student", required=True, metavar="FOLDER", help="made by create_student.py")
    parser.add_argument("--save_path", required=True, type=Path, metavar="FOLDER", help="a new or an empty folder")
    parser.add_argument("--seed", type=int, default=1, help="of the new weights (default: 1)")
    args = parser.parse_args()
    set_up_logging(format="%(message)s")
    layers = make_fresh_student(args.student, args.save_path, args.seed)
    print(f"{args.save_path}: {layers} new decoder layers (seed {args.seed}); everything else is {args.student}'s")


if __name__ == "__main__":
    sys.exit(run_command(main))
