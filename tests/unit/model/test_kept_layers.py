"""Which layers are kept: the table of 2020 as it was published, and an even spread where it has no entry."""

import logging

import pytest

from distilbart_mnli.errors import InputError
from distilbart_mnli.model.kept_layers import KEPT_LAYERS, check_layers, select_layers

# Typed from the script of 2020 and written apart from the module, so that a slip in either shows.
PUBLISHED = {
    (12, 1): "0",
    (12, 2): "0 6",
    (12, 3): "0 6 11",
    (12, 4): "0 4 8 11",
    (12, 6): "0 2 4 7 9 11",
    (12, 9): "0 1 2 4 5 7 9 10 11",
    (12, 12): "0 1 2 3 4 5 6 7 8 9 10 11",
    (16, 1): "0",
    (16, 2): "0 8",
    (16, 3): "0 8 15",
    (16, 4): "0 5 10 15",
    (16, 6): "0 3 6 9 12 15",
    (16, 8): "0 2 4 6 8 10 12 15",
    (16, 9): "0 1 3 5 7 9 11 13 15",
    (16, 12): "0 1 2 3 4 5 6 7 9 11 13 15",
    (16, 16): "0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15",
    (6, 1): "0",
    (6, 2): "0 5",
    (6, 3): "0 2 5",
    (6, 4): "0 1 3 5",
    (6, 6): "0 1 2 3 4 5",
}


@pytest.mark.parametrize(("teacher", "student"), PUBLISHED)
def test_the_layers_are_those_published_in_2020(teacher, student):
    assert select_layers(teacher, student) == [int(layer) for layer in PUBLISHED[teacher, student].split()]


def test_the_table_holds_nothing_that_was_not_published():
    assert {(teacher, student) for teacher, row in KEPT_LAYERS.items() for student in row} == set(PUBLISHED)


@pytest.mark.parametrize(
    ("teacher", "student", "expected"),
    [
        (12, 5, [0, 3, 6, 8, 11]),  # 0 2.75 5.5 8.25 11
        (12, 11, [0, 1, 2, 3, 4, 6, 7, 8, 9, 10, 11]),  # 1.1 apart; 5.5 goes up
        (6, 5, [0, 1, 3, 4, 5]),  # 0 1.25 2.5 3.75 5
        (8, 3, [0, 4, 7]),  # 0 3.5 7
        (24, 2, [0, 23]),
        (3, 1, [0]),
        (1, 1, [0]),
    ],
)
def test_without_an_entry_layers_spread_evenly_over_the_stack(teacher, student, expected):
    assert select_layers(teacher, student) == expected


def test_every_choice_is_ascending_distinct_and_starts_at_the_first_layer():
    for teacher in range(1, 33):
        for student in range(1, teacher + 1):
            layers = select_layers(teacher, student)
            assert layers == sorted(set(layers))
            assert len(layers) == student
            assert layers[0] == 0
            # The published pair for 12 layers is 0 and 6: the one entry of the tables without the last layer.
            if student > 1 and (teacher, student) not in ((12, 2), (16, 2)):
                assert layers[-1] == teacher - 1


@pytest.mark.parametrize(("number", "told"), [(3, "table of 2020"), (5, "spread evenly"), (12, "all")])
def test_the_log_says_where_a_choice_comes_from(caplog, number, told):
    with caplog.at_level(logging.INFO, logger="distilbart_mnli"):
        select_layers(12, number, "decoder")
    assert f"decoder: {number} of 12 layers" in caplog.text
    assert told in caplog.text


def test_the_caller_cannot_change_the_table():
    select_layers(12, 3).append(99)
    assert select_layers(12, 3) == [0, 6, 11]


@pytest.mark.parametrize(("number", "told"), [(0, "at least 1"), (-1, "at least 1"), (13, "has 12 layers")])
def test_an_impossible_number_of_layers_is_refused(number, told):
    with pytest.raises(InputError, match=told):
        select_layers(12, number)


def test_chosen_layers_keep_their_order():
    assert check_layers(12, [11, 0, 6], "decoder") == [11, 0, 6]


@pytest.mark.parametrize(
    ("layer_ids", "told"),
    [([0, 12], "no layer 12.*0 to 11"), ([-1], "no layer -1"), ([3, 0, 3], "layer 3 is given more"), ([], "empty")],
)
def test_chosen_layers_out_of_range_or_repeated_are_refused(layer_ids, told):
    with pytest.raises(InputError, match=f"decoder_layer_ids.*{told}"):
        check_layers(12, layer_ids, "decoder")
