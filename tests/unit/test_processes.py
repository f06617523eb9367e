"""One process agrees with itself, and names a folder it cannot lock; several: end_to_end/test_processes.py."""

import os

import pytest

from distilbart_mnli.errors import InputError
from distilbart_mnli.processes import lock_output_dir, raise_on_all_ranks, ranks_sharing


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(InputError, match="output_dir"):
        lock_output_dir(tmp_path / "output", True)


def test_a_file_where_the_folder_should_be_is_named(tmp_path):
    (tmp_path / "output").write_text("")
    with pytest.raises(InputError, match="output_dir"):
        lock_output_dir(tmp_path / "output", True)


def test_one_process_alone_agrees_with_itself(tmp_path):
    assert ranks_sharing(tmp_path) == [0]
    assert list(tmp_path.iterdir()) == []
    raise_on_all_ranks(None)
    with pytest.raises(InputError, match="mine"):
        raise_on_all_ranks(InputError("mine"))
