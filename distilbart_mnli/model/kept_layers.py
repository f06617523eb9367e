"""Which layers of a teacher's stack a student keeps.

The figures published in 2020 belong to the layers in KEPT_LAYERS: those of create_student.py in
patil-suraj/distillbart-mnli, alternating layers with the first and the last among them. A stack or a number that the
table does not know gets layers spread evenly, first and last included.
"""

import logging
from collections.abc import Sequence

from distilbart_mnli.errors import InputError

logger = logging.getLogger(__name__)

# [layers of the teacher][layers of the student] -> indices of the teacher's layers
KEPT_LAYERS: dict[int, dict[int, list[int]]] = {
    6: {1: [0], 2: [0, 5], 3: [0, 2, 5], 4: [0, 1, 3, 5], 6: [0, 1, 2, 3, 4, 5]},
    12: {
        1: [0],
        2: [0, 6],
        3: [0, 6, 11],
        4: [0, 4, 8, 11],
        6: [0, 2, 4, 7, 9, 11],
        9: [0, 1, 2, 4, 5, 7, 9, 10, 11],
        12: [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11],
    },
    16: {
        1: [0],
        2: [0, 8],
        3: [0, 8, 15],
        4: [0, 5, 10, 15],
        6: [0, 3, 6, 9, 12, 15],
        8: [0, 2, 4, 6, 8, 10, 12, 15],
        9: [0, 1, 3, 5, 7, 9, 11, 13, 15],
        12: [0, 1, 2, 3, 4, 5, 6, 7, 9, 11, 13, 15],
        16: [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15],
    },
}


def select_layers(num_teacher_layers: int, num_student_layers: int, stack: str = "stack") -> list[int]:
    """The teacher's layers that a student of `num_student_layers` keeps: ascending, distinct, the first among them.

    `stack` ("encoder" or "decoder") is for the log line and the messages.

    Raises:
        InputError: fewer than one layer, or more than the teacher has.
    """
    if not 1 <= num_student_layers <= num_teacher_layers:
        raise InputError(
            f"{stack}: the teacher has {num_teacher_layers} layers, of which a student keeps at least 1 and at most "
            f"all, not {num_student_layers}"
        )
    table = KEPT_LAYERS.get(num_teacher_layers, {})
    if num_student_layers == num_teacher_layers:
        layers, origin = list(range(num_teacher_layers)), "all"
    elif num_student_layers in table:
        layers, origin = list(table[num_student_layers]), "the table of 2020"
    else:
        layers, origin = spread_evenly(num_teacher_layers, num_student_layers), "spread evenly: no entry in the table"
    return _logged(stack, num_teacher_layers, layers, origin)


def spread_evenly(num_teacher_layers: int, num_student_layers: int) -> list[int]:
    """Distinct indices below `num_teacher_layers`, the first and the last included; for one layer, the first.

    Halves are rounded up, in integers (`round` would take 2.5 to 2 and 3.5 to 4).
    """
    gaps = max(1, num_student_layers - 1)
    return [(2 * i * (num_teacher_layers - 1) + gaps) // (2 * gaps) for i in range(num_student_layers)]


def check_layers(num_teacher_layers: int, layer_ids: Sequence[int], stack: str) -> list[int]:
    """Layer indices that a user chose, in their order.

    Raises:
        InputError: none given, an index out of range, or one given twice (a slip of the hand: a repeated layer costs
            as much as another one and adds nothing that the teacher had).
    """
    if not layer_ids:
        raise InputError(f"{stack}_layer_ids is empty: give at least one layer of the teacher, for example 0")
    for index in layer_ids:
        if not 0 <= index < num_teacher_layers:
            raise InputError(
                f"{stack}_layer_ids: there is no layer {index}; the teacher's {stack} has layers 0 to "
                f"{num_teacher_layers - 1}"
            )
    repeated = sorted({index for index in layer_ids if list(layer_ids).count(index) > 1})
    if repeated:
        raise InputError(f"{stack}_layer_ids: layer {show_layers(repeated)} is given more than once")
    return _logged(stack, num_teacher_layers, list(layer_ids), "as given")


def _logged(stack: str, available: int, layers: list[int], origin: str) -> list[int]:
    logger.info("%s: %d of %d layers: %s (%s)", stack, len(layers), available, show_layers(layers), origin)
    return layers


def show_layers(layer_ids: Sequence[int]) -> str:
    """Layer indices for a reader: "0, 6, 11"."""
    return ", ".join(map(str, layer_ids))
