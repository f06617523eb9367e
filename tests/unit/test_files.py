"""Files and folders: whole or not at all, never through a link, nothing of a dead process left, modes by the umask."""

import multiprocessing
import os
import stat
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from distilbart_mnli.errors import InputError, RunError
from distilbart_mnli.files import (
    OLD,
    TEMPORARY,
    atomic_file,
    atomic_folder,
    lock_file,
    lock_holder,
    path_inside,
    remove,
    remove_leftovers,
)
from distilbart_mnli.processes import lock_output_dir
from tests.support.files import everything_in

SPAWN = multiprocessing.get_context("fork")


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture(params=[0o022, 0o077, 0o002], ids=oct)
def umask(request):
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


@pytest.fixture
def outside(tmp_path) -> Path:
    """A folder beside the one that is written to."""
    folder = tmp_path / "outside"
    (folder / "inner").mkdir(parents=True)
    (folder / "precious.txt").write_text("precious")
    return folder


@pytest.fixture
def inside(tmp_path) -> Path:
    (tmp_path / "inside").mkdir()
    return tmp_path / "inside"


# ---------------------------------------------------------------------------------------------------------------------
# Names out of files


@pytest.mark.parametrize(
    "name",
    ["/etc/passwd", "..", "../x", "a/../../x", "", ".", "link", "link/x", "a/link", "x\0y", None, 3, ["a"], "./../x"],
)
def test_a_name_that_leaves_its_folder_is_refused(inside, outside, name):
    (inside / "a").mkdir()
    (inside / "link").symlink_to(outside)
    (inside / "a/link").symlink_to("nowhere")
    with pytest.raises(InputError):
        path_inside(inside, name)


@pytest.mark.parametrize("name", ["x", "a/x", "./x", "..x", "a..b/x.y", "-", "checkpoint-3"])
def test_a_name_inside_its_folder_is_a_path(inside, name):
    (inside / "a").mkdir()
    assert path_inside(inside, name) == inside / name


def test_links_are_followed_where_that_is_said(inside, outside):
    (inside / "blob").symlink_to(outside / "precious.txt")
    assert path_inside(inside, "blob", links=True).read_text() == "precious"
    with pytest.raises(InputError):
        path_inside(inside, "../x", links=True)


# ---------------------------------------------------------------------------------------------------------------------
# Links


def test_nothing_is_written_through_a_link(inside, outside):
    before = everything_in(outside)
    random = f"{TEMPORARY}0123456789abcdef-all_results.json"
    names = ["all_results.json", random, "checkpoint-1", OLD + "checkpoint-1", ".lock"]
    for name, target in zip(names, ["precious.txt", "precious.txt", "inner", "inner", "precious.txt"], strict=True):
        (inside / name).symlink_to(outside / target)
    with atomic_file(inside / "all_results.json") as temporary:
        temporary.write_text("{}")
    with atomic_folder(inside / "checkpoint-1") as temporary:
        (temporary / "state").write_text("state")
    with pytest.raises(OSError, match="link"):
        lock_file(inside / ".lock")
    with pytest.raises(InputError, match=r"\.lock.* link"):
        lock_output_dir(inside, True)
    assert everything_in(outside) == before
    (inside / ".lock").unlink()
    assert sorted(path.name for path in inside.iterdir()) == ["all_results.json", "checkpoint-1"]
    assert not any(path.is_symlink() for path in inside.iterdir())
    assert (inside / "all_results.json").read_text() == "{}" and (inside / "checkpoint-1/state").is_file()


def test_removing_a_link_keeps_what_it_leads_to(inside, outside):
    before = everything_in(outside)
    for name, target in (("file", "precious.txt"), ("folder", "inner"), ("nothing", "none")):
        (inside / name).symlink_to(outside / target)
        remove(inside / name)
    (inside / "deep").mkdir()
    (inside / "deep/link").symlink_to(outside)
    remove(inside / "deep")
    assert everything_in(outside) == before and not list(inside.iterdir())


def test_a_lock_never_writes_into_a_file_that_was_there(inside, outside):
    """A second name for another file (a hard link), or what a killed run left."""
    os.link(outside / "precious.txt", inside / ".lock")
    with lock_file(inside / ".lock"):
        assert lock_holder(inside / ".lock").startswith(f"process {os.getpid()} on ")
    assert (outside / "precious.txt").read_text() == "precious" and not list(inside.iterdir())
    (inside / ".lock").mkdir()
    with pytest.raises(InputError, match="output_dir"):
        lock_output_dir(inside, True)


def test_a_lock_is_one_processes(inside):
    (inside / ".lock").write_text("process 1 on elsewhere\n")
    with lock_file(inside / ".lock") as held:
        assert held is not None and lock_file(inside / ".lock") is None
    with lock_file(inside / ".lock") as again:
        assert again is not None


# ---------------------------------------------------------------------------------------------------------------------
# Leftovers


def die_inside(context, path: Path) -> None:
    with context(path) as temporary:
        (temporary / "half" if temporary.is_dir() else temporary).write_text("half")
        os._exit(9)


@pytest.mark.parametrize("context", [atomic_file, atomic_folder])
def test_what_a_dead_process_left_goes_at_the_next_use(inside, context):
    child = SPAWN.Process(target=die_inside, args=(context, inside / "first"))
    child.start()
    child.join()
    assert [path.name.startswith(TEMPORARY) for path in inside.iterdir()] == [True]
    with context(inside / "second") as temporary:
        (temporary / "x" if temporary.is_dir() else temporary).write_text("whole")
    assert [path.name for path in inside.iterdir()] == ["second"]


def test_what_is_not_ours_is_kept_unless_the_folder_is(inside):
    (inside / f"{TEMPORARY}thesis.tex").write_text("somebody's")
    with atomic_file(inside / "x") as temporary:
        temporary.write_text("x")
    assert {path.name for path in inside.iterdir()} == {"x", f"{TEMPORARY}thesis.tex"}
    remove_leftovers(inside, owned=True)
    assert {path.name for path in inside.iterdir()} == {"x"}


def test_what_a_living_process_writes_is_kept(inside):
    with atomic_file(inside / "one") as one, atomic_folder(inside / "two") as two:
        one.write_text("one")
        (two / "x").write_text("two")
        remove_leftovers(inside, owned=True)
        with atomic_file(inside / "three") as three:
            three.write_text("three")
    assert {p.name for p in inside.iterdir()} == {"one", "two", "three"} and (inside / "two/x").read_text() == "two"


def test_a_folder_that_was_about_to_be_replaced_is_put_back(inside):
    (inside / (OLD + "student")).mkdir()
    (inside / (OLD + "student") / "config.json").write_text("old")
    (inside / (OLD + "other")).mkdir()
    (inside / "other").mkdir()
    remove_leftovers(inside)
    assert {p.name for p in inside.iterdir()} == {"student", "other"}
    assert (inside / "student/config.json").read_text() == "old"


def test_a_failure_leaves_what_was_there(inside):
    (inside / "folder").mkdir()
    (inside / "folder/x").write_text("old")
    (inside / "file").write_text("old")
    before = everything_in(inside)
    with pytest.raises(ZeroDivisionError), atomic_folder(inside / "folder") as temporary:
        (temporary / "x").write_text(str(1 // 0))
    with pytest.raises(RunError, match=r"file.*whole"), atomic_file(inside / "file", "the rest is whole"):
        raise OSError(28, "No space left on device")
    with pytest.raises(ZeroDivisionError), atomic_folder(inside / "new/er/folder"):
        print(1 // 0)
    assert everything_in(inside) == before


def test_a_signal_between_the_two_renames_leaves_the_old_folder(inside, monkeypatch):
    (inside / "folder").mkdir()
    (inside / "folder/x").write_text("old")
    before, rename = everything_in(inside), Path.rename

    def interrupted(path, target):
        if path.name.startswith(TEMPORARY) and path.name.endswith("-folder") and not path.name.startswith(OLD):
            raise KeyboardInterrupt
        return rename(path, target)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Path, "rename", interrupted)
        with atomic_folder(inside / "folder") as temporary:
            (temporary / "x").write_text("new")
    remove_leftovers(inside)
    assert everything_in(inside) == before


# ---------------------------------------------------------------------------------------------------------------------
# Modes


def test_a_disk_without_modes_is_written_all_the_same(inside, monkeypatch):
    def refuse(*_, **__):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(Path, "chmod", refuse)
    with atomic_folder(inside / "folder") as temporary, atomic_file(inside / "file") as file:
        (temporary / "x").write_text("x")
        file.write_text("x")
    assert (inside / "folder/x").is_file() and (inside / "file").is_file()


def test_modes_are_the_umasks(inside, umask):
    """Also of what safetensors writes, for its owner alone."""
    with atomic_folder(inside / "folder") as temporary:
        save_file({"x": torch.zeros(1)}, temporary / "model.safetensors")
        (temporary / "deep").mkdir()
        (temporary / "deep/config.json").write_text("{}")
    with atomic_file(inside / "weights.safetensors") as temporary:
        save_file({"x": torch.zeros(1)}, temporary)
    for path in inside.rglob("*"):
        assert mode(path) == (0o777 if path.is_dir() else 0o666) & ~umask, path
    with lock_file(inside / ".lock"):
        assert mode(inside / ".lock") == 0o666 & ~umask
