"""The losses of the steps since somebody last looked."""

import math

import torch

from distilbart_mnli.errors import RunError
from distilbart_mnli.processes import gather_objects
from distilbart_mnli.train.device import Device
from distilbart_mnli.train.state import Progress


class PendingLosses:
    """Losses and the gradient's norm as they lie on the device; the host waits for them in `flush` only."""

    def __init__(self) -> None:
        self.norm: torch.Tensor | None = None
        """Of the last step's gradient."""
        self._sums: list[torch.Tensor] = []
        self._examples: list[int] = []

    def add(self, total: torch.Tensor, examples: int) -> None:
        """A step's sum of losses (of this process) and its examples (of all)."""
        self._sums.append(total)
        self._examples.append(examples)

    def flush(self, progress: Progress, device: Device, scaled: bool, advice: str) -> None:
        """Bring the losses to the host, into `progress`, summed over processes in the order of ranks.

        Args:
            scaled: by fp16's loss scale: an infinite gradient is then expected, and its step skipped.
            advice: for the error.

        Raises:
            RunError: one of them, or the last gradient, is not finite.
        """
        if not self._sums:
            return
        mine = device.to_host(self._sums).float().tolist()
        sums = torch.tensor(gather_objects(mine), dtype=torch.float64).sum(dim=0).tolist()
        first = progress.step - len(sums) + 1
        for number, total in enumerate(sums):
            if not math.isfinite(total):
                raise RunError(f"the loss at step {first + number} is {total}; {advice}")
        if self.norm is not None and not scaled and not math.isfinite(float(self.norm)):
            raise RunError(f"the gradient at step {progress.step} is not finite; {advice}")
        for total, examples in zip(sums, self._examples, strict=True):
            progress.window.append([total, examples])
            progress.loss_sum += total
            progress.loss_examples += examples
        self._sums, self._examples = [], []
