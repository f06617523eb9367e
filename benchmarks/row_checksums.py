"""What it costs to check every row of the encoder cache when it is first read: slices of a cached epoch, in turn.

    python -m benchmarks.row_checksums                                      # d_model 256, 12-1, float32
    python -m benchmarks.row_checksums --size large --steps 2               # bart-large's size
    python -m benchmarks.row_checksums --size large --device cuda --dtype bf16

    (first)  every row of the slice is read for the first time, as in a run's first epoch: gathered, checked, used
    (again)  every row was read before, as in its later epochs: gathered, used

Seconds of the clock, or with --clock cpu of all threads of this process, which other processes disturb less.
Ratio: the median over the repetitions of first / again, each pair measured one after the other, in changing order.
"alone" is the time of the checksums of the slice's rows, computed once more without anything else, over that of
(again): where the host's threads wait for the device, more than the ratio can show.
"""

import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch

from benchmarks.options import add_training_options, check_options, make_parser, quiet_transformers, write_report
from benchmarks.train_speed import DTYPES, make_recipe, seconds_of
from benchmarks.variants import SIZES, Ours
from distilbart_mnli.errors import run_command


def main(arguments: list[str] | None = None) -> None:
    parser = make_parser("row_checksums", __doc__)
    add_training_options(parser, list(SIZES))
    parser.add_argument("--dtype", choices=DTYPES, default="fp32")
    parser.add_argument("--repetitions", type=int, default=15)
    parser.add_argument("--steps", type=int, default=5, help="optimizer steps in a slice")
    parser.add_argument("--clock", choices=["wall", "cpu"], default="wall")
    parser.set_defaults(layers=[1], student=None, reference_steps=1, torch_compile=False)
    options = parser.parse_args(arguments)
    check_options(options)
    quiet_transformers()
    torch.set_num_threads(options.threads)

    def timed(work: Callable[[], object], device: str) -> float:
        started = time.process_time()
        wall = seconds_of(work, device)
        return time.process_time() - started if options.clock == "cpu" else wall

    with tempfile.TemporaryDirectory() as folder:
        variant = Ours(make_recipe(options, options.layers[0], Path(folder)), "d")
        cache, rows = variant.training.objective.gathered["states"], len(variant.split)
        assert cache is not None
        seconds: dict[str, list[float]] = {"first": [], "again": [], "alone": []}
        variant.slice()  # warm-up
        for repetition in range(options.repetitions):
            for name in ("first", "again")[:: 1 if repetition % 2 else -1]:
                cache._unchecked[:] = name == "first"
                seconds[name].append(timed(variant.slice, options.device))
                assert not cache._unchecked.any()
            seconds["alone"].append(timed(lambda: [cache._is_damaged(row) for row in range(rows)], "cpu"))
    median = {name: statistics.median(values) for name, values in seconds.items()}
    ratio = statistics.median(first / again for first, again in zip(seconds["first"], seconds["again"], strict=True))
    alone = median["alone"] / median["again"]
    print(f"{rows} rows, {cache._bytes.nbytes / 1e6:.1f} MB; seconds of the {options.clock} clock:")
    print(f"first {median['first']:.3f}, again {median['again']:.3f}, the checksums alone {median['alone']:.5f}")
    print(f"cost: {100 * (ratio - 1):+.2f} % of a cached epoch as measured; {100 * alone:.2f} % the checksums alone")
    write_report(options, {"seconds": seconds, "ratio": ratio, "alone": alone})


if __name__ == "__main__":
    sys.exit(run_command(main))
