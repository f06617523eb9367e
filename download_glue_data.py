"""Get GLUE's data as TSV files, with the flags of the script that transformers removed.

    python download_glue_data.py --data_dir glue_data --tasks MNLI
    python download_glue_data.py --data_dir glue_data --tasks MNLI,RTE SST-2     # or: all

makes glue_data/MNLI/train.tsv and so on from nyu-mll/glue on the Hub, with the columns of gluebenchmark.com. Files
that are there and whole are skipped, so the same command goes on after an interruption. The number of rows of each
file is checked. Tabs and line breaks inside a text become spaces, and are counted.

Exit codes: 0 done; 1 the disk failed, or the data is not GLUE's; 2 bad input; 3 the Hub refused or cannot be reached.
"""

import sys
from pathlib import Path

from distilbart_mnli.command_line import OneLineParser, file_path, path_or_id
from distilbart_mnli.data.tasks import TASKS
from distilbart_mnli.errors import run_command, say

# What people type -> what it is called here.
MEANT = {
    **dict.fromkeys(("task_name", "dataset"), "did you mean --tasks?"),
    "all": "did you mean --tasks all?",
    **dict.fromkeys(("output_dir", "output", "out", "save_path", "dir"), "did you mean --data_dir?"),
    **dict.fromkeys(("force", "overwrite_cache"), "did you mean --overwrite?"),
}


def main() -> None:
    folders = ", ".join(dict.fromkeys(task.folder for task in TASKS.values()))
    parser = OneLineParser("download_glue_data.py", __doc__, MEANT)
    parser.add_argument("--data_dir", type=file_path, default=Path("glue_data"), help="default: glue_data")
    parser.add_argument("--tasks", nargs="+", default=["all"], metavar="TASK", help=f"{folders}, or all (default)")
    parser.add_argument("--cache_dir", type=path_or_id, help="of the datasets library (default: its own)")
    parser.add_argument("--overwrite", action="store_true", help="replace files with another number of rows")
    parser.add_argument("--path_to_mrpc", help="without effect: MRPC comes from the Hub like the rest")
    args = parser.parse_args()
    # After the arguments: datasets takes seconds to import.
    from distilbart_mnli.data.download import download, select_tasks

    tasks = select_tasks(args.tasks)
    for file in download(tasks, args.data_dir, args.cache_dir, args.overwrite):
        note = ", was there" if file.was_there else ""
        note += f", {file.breaks:,} tabs and line breaks inside texts became spaces" if file.breaks else ""
        say(f"{file.path}: {file.rows:,} rows{note}")


if __name__ == "__main__":
    sys.exit(run_command(main))
