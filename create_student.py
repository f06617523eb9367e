"""Copy layers out of a BART classifier into a smaller one.

    python create_student.py --teacher_model_name_or_path facebook/bart-large-mnli \\
        --student_encoder_layers 12 --student_decoder_layers 3 --save_path student-bart-mnli-12-3

or name the layers: --decoder_layer_ids 0,6,11. A stack for which nothing is given is kept whole. The student is a
stock transformers model with its tokenizer; run_glue.py fine-tunes it. With --encoder_from FOLDER the encoder is the
one that run_glue.py --fit_encoder trained there: students that differ in their decoders share it, and its cache.

Exit codes: 0 done; 1 the disk failed; 2 bad input, nothing was written; 3 the Hub refused or cannot be reached.
"""

import argparse
import sys

from distilbart_mnli.command_line import OneLineParser, file_path, path_or_id, set_up_logging
from distilbart_mnli.errors import run_command, say

# What people type, above all the options of run_glue.py and the names in config.json -> what it is called here.
MEANT = {
    **dict.fromkeys(
        ("teacher", "model", "model_name_or_path", "teacher_name_or_path", "teacher_model"),
        "did you mean --teacher_model_name_or_path?",
    ),
    **dict.fromkeys(
        ("output_dir", "output", "out", "save_dir", "student", "student_path"), "did you mean --save_path?"
    ),
    **dict.fromkeys(("encoder_layers", "e"), "did you mean --student_encoder_layers?"),
    **dict.fromkeys(("encoder", "fitted", "encoder_name_or_path"), "did you mean --encoder_from?"),
    **dict.fromkeys(("decoder_layers", "d", "num_layers", "layers"), "did you mean --student_decoder_layers?"),
    **dict.fromkeys(("revision", "model_revision"), "did you mean --teacher_revision?"),
    **dict.fromkeys(("overwrite_output_dir", "force"), "did you mean --overwrite?"),
    **dict.fromkeys(("push_to_hub", "hub_model_id", "do_train", "task_name"), "run_glue.py trains and publishes"),
    **dict.fromkeys(("dtype", "fp16", "bf16"), "the student has the teacher's data type"),
}


def whole_number(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be a whole number, not '{text}'") from None


def layer_ids(text: str) -> list[int]:
    """ "0,6,11" or "0 6 11"; an argument of several words arrives here word by word."""
    return [whole_number(part) for part in text.replace(",", " ").split()]


def make_parser() -> OneLineParser:
    parser = OneLineParser("create_student.py", __doc__, MEANT)
    add = parser.add_argument
    add("--teacher_model_name_or_path", required=True, type=path_or_id, metavar="FOLDER_OR_ID", help="BART classifier")
    add("--save_path", required=True, type=file_path, metavar="FOLDER", help="a new or an empty folder")
    add("--student_encoder_layers", type=whole_number, metavar="N", help="encoder layers to keep (default: all)")
    add("--student_decoder_layers", type=whole_number, metavar="N", help="decoder layers to keep (default: all)")
    for stack in ("encoder", "decoder"):
        name, text = f"--{stack}_layer_ids", f"these {stack} layers of the teacher, in this order, such as 0,6,11"
        add(name, type=layer_ids, nargs="+", metavar="IDS", help=text)
    text = "a student of this teacher whose encoder, fitted by run_glue.py --fit_encoder, is taken"
    add("--encoder_from", type=path_or_id, metavar="FOLDER_OR_ID", help=text)
    add("--teacher_revision", default="main", metavar="REVISION", help="branch, tag or commit of a teacher on the Hub")
    add("--overwrite", action="store_true", help="replace the model in save_path, once the new one is whole")
    return parser


def read_arguments(argv: list[str]) -> argparse.Namespace:
    """Raises InputError, of one line, for whatever cannot be understood."""
    parser = make_parser()
    args = parser.parse_args(argv)
    for name in ("encoder_layer_ids", "decoder_layer_ids"):
        words = getattr(args, name)
        setattr(args, name, None if words is None else [index for word in words for index in word])
    if {args.student_encoder_layers, args.student_decoder_layers} == {None} and not (
        args.encoder_layer_ids or args.decoder_layer_ids or args.encoder_from
    ):
        parser.error("say what to keep, for example --student_encoder_layers 12 --student_decoder_layers 3")
    return args


def main() -> None:
    args = read_arguments(sys.argv[1:])
    set_up_logging(format="%(message)s")
    # After the arguments: torch takes seconds to import.
    from distilbart_mnli.model.kept_layers import show_layers
    from distilbart_mnli.model.student import StudentPlan, create_student

    plan = StudentPlan(
        args.teacher_model_name_or_path,
        args.student_encoder_layers,
        args.student_decoder_layers,
        args.encoder_layer_ids,
        args.decoder_layer_ids,
        args.teacher_revision,
        args.encoder_from,
    )
    student = create_student(plan, args.save_path, args.overwrite)
    config = student.model.config
    say(f"teacher  {student.teacher_summary}")
    say(f"student  {args.save_path}: {student.summary}")
    origin = f", as {args.encoder_from} has them" if args.encoder_from else ""
    say(f"kept     encoder layers {show_layers(config.encoder_layer_ids)}{origin}")
    say(f"         decoder layers {show_layers(config.decoder_layer_ids)}")


if __name__ == "__main__":
    sys.exit(run_command(main))
