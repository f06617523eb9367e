"""run_glue.py --fit_encoder with another loss, for one question: is the direction of a state enough?

    python -m examples.distillation.cosine ARGS OF run_glue.py ...

The loss of a row is 1 - cos(student's state, teacher's state), the mean over its real tokens. An evaluation's
`encoder_mse` is then this too.
"""

from torch import Tensor, nn

import run_glue
from distilbart_mnli.train import objective


def cosine_losses(states: Tensor, teacher_states: Tensor, attention_mask: Tensor) -> Tensor:
    """float32 [batch]; arguments as objective.state_losses has them."""
    distances = 1 - nn.functional.cosine_similarity(states.float(), teacher_states.float(), dim=-1)
    return (distances * attention_mask).sum(1) / attention_mask.sum(1)


if __name__ == "__main__":
    objective.state_losses = cosine_losses
    run_glue.main()
