"""A BART classifier for ONNX Runtime and the browser, checked against torch before it is written.

    python export_onnx.py distilbart-mnli-12-1 --quantize int8 --data_dir glue_data/MNLI

writes distilbart-mnli-12-1/onnx/model.onnx and, if it gives the float32 model's answer on at least 98.5 % of the
evaluation rows, model_quantized.onnx: where transformers.js looks for them. Needs requirements-onnx.txt.

Exit codes: 0 done; 1 the graph does not compute what the model computes, int8 below --min_agreement, or a full disk;
2 bad input; 3 the Hub refused.
"""

import argparse
import sys
from pathlib import Path

from distilbart_mnli.command_line import OneLineParser, file_path, path_or_id, positive, set_up_logging, share
from distilbart_mnli.errors import RunError, run_command, say

# What people type, above all optimum-cli's options and run_glue.py's -> what it is called here.
MEANT = {
    **dict.fromkeys(("model", "model_name_or_path", "model_id"), "the model is given without a name"),
    **dict.fromkeys(("output", "out", "save_path", "save_dir"), "did you mean --output_dir?"),
    **dict.fromkeys(("int8", "q8", "quantized", "dtype", "mode"), "did you mean --quantize int8?"),
    **dict.fromkeys(("task", "dataset", "validation_file"), "did you mean --task_name?"),
    **dict.fromkeys(("max_samples", "limit"), "did you mean --max_eval_samples?"),
    **dict.fromkeys(("max_length", "max_len"), "did you mean --max_seq_length?"),
    **dict.fromkeys(("opset", "device", "fp16", "optimize"), "float32 or int8, of any batch size and length"),
}


def read_arguments(argv: list[str]) -> argparse.Namespace:
    """Raises InputError, of one line, for whatever cannot be understood."""
    parser = OneLineParser("export_onnx.py", __doc__, MEANT)
    add = parser.add_argument
    add("model", type=path_or_id, metavar="MODEL", help="folder or Hub id of a BART classifier")
    add("--output_dir", type=file_path, metavar="DIR", help="default: the model's own folder")
    add("--quantize", choices=("int8",), help="an int8 file as well, measured on the task's first evaluation set")
    add(
        "--min_agreement",
        type=share,
        default=argparse.SUPPRESS,
        metavar="SHARE",
        help="of int8 with float32 (default: 0.985)",
    )
    add("--task_name", default="mnli", metavar="TASK", help="whose evaluation set int8 is measured on (default: mnli)")
    add("--data_dir", type=path_or_id, metavar="DIR", help="the task's TSV files (default: nyu-mll/glue on the Hub)")
    add("--max_eval_samples", type=positive, metavar="N", help="first rows of the set only: a quick look")
    add("--max_seq_length", type=positive, default=128, metavar="N", help="tokens of a pair (default: 128)")
    args = parser.parse_args(argv)
    if args.output_dir is None:
        args.output_dir = Path(args.model)
        if not args.output_dir.is_dir():
            parser.error(f"{args.model} is no folder here: say with --output_dir where the export goes")
    return args


def main() -> None:
    options = read_arguments(sys.argv[1:])
    set_up_logging(format="%(message)s")
    # After the arguments: torch takes seconds to import.
    from distilbart_mnli.export.session import PACKAGES, check_installed

    check_installed(*PACKAGES)
    from distilbart_mnli.export.export import MIN_AGREEMENT, check_folder, export_onnx, load_for_export, load_rows
    from distilbart_mnli.options.fields import Arguments
    from distilbart_mnli.publish.card import write_model_card

    check_folder(options.output_dir, options.model)
    args = Arguments(
        model_name_or_path=options.model,
        task_name=options.task_name,
        data_dir=options.data_dir,
        max_eval_samples=options.max_eval_samples,
        max_seq_length=options.max_seq_length,
        do_eval=True,
    )
    loaded = load_for_export(args)
    rows = load_rows(args, loaded) if options.quantize or options.data_dir else None
    least = getattr(options, "min_agreement", MIN_AGREEMENT)
    exported = export_onnx(loaded, options.output_dir, rows, bool(options.quantize), least)
    if all((options.output_dir / name).is_file() for name in ("README.md", "trainer_state.json")):
        write_model_card(options.output_dir)  # a run's own, which names the files
    say(f"{exported.folder}: model.onnx gives torch's logits to {exported.difference:.0e} of the largest")
    if (found := exported.figures) is None:
        return
    line = (
        f"int8 gives float32's answer on {100 * found['agreement']:.2f} % of {found['rows']:,} rows of "
        f"{found['data']} (accuracy {100 * found['accuracy']:.2f}, float32 {100 * found['accuracy_float32']:.2f}), "
        f"{found['mb']:.1f} MB instead of {found['mb_float32']:.1f}"
    )
    if not exported.quantized:
        raise RunError(f"{line}: below --min_agreement {least:g}, so it is not written")
    say(f"{exported.folder}: model_quantized.onnx: {line}")


if __name__ == "__main__":
    sys.exit(run_command(main))
