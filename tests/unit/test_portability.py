"""What only Linux has is asked for before it is used, and a training runs without it; Windows is told in one line.

No test here has run on macOS: what is absent there is taken away.
"""

import ast
import os
import signal
import sys
from pathlib import Path

import pytest
import torch

from distilbart_mnli import errors
from distilbart_mnli.model import kernels
from distilbart_mnli.train.device import Device
from tests.support.in_process import train_here
from tests.support.tiny import ROOT
from tests.support.training_runs import Workshop, outcome

# Of the modules os and signal: in Linux's, not in macOS's (docs.python.org/3/library/os.html, "Availability").
LINUX_ONLY = set(
    "posix_fallocate posix_fadvise sched_getaffinity sched_setaffinity sched_getscheduler sched_setscheduler "
    "memfd_create eventfd getrandom copy_file_range splice pidfd_open pidfd_send_signal fdatasync pipe2 setns unshare "
    "getresuid setresuid getxattr setxattr listxattr timerfd_create process_cpu_count O_DIRECT O_TMPFILE O_PATH "
    "O_LARGEFILE O_NOATIME SIGPWR SIGSTKFLT SIGPOLL sigtimedwait sigwaitinfo".split()
)


def used_without_asking(tree: ast.AST) -> set[str]:
    """The names of LINUX_ONLY that a module uses as an attribute and nowhere asks for with hasattr."""
    used = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)} & LINUX_ONLY
    asked = {
        node.args[1].value
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "hasattr"
        if isinstance(node.args[1], ast.Constant)
    }
    return used - asked


def test_what_only_linux_has_is_asked_for_before_it_is_used():
    assert used_without_asking(ast.parse("os.posix_fallocate(1, 0, 1)")) == {"posix_fallocate"}
    for path in [*(ROOT / "distilbart_mnli").rglob("*.py"), *ROOT.glob("*.py"), *(ROOT / "examples").rglob("*.py")]:
        assert not used_without_asking(ast.parse(path.read_text(encoding="utf-8"))), path


def test_a_training_without_what_only_linux_has_ends_as_with_it(tmp_path, monkeypatch):
    shop = Workshop(tmp_path)
    assert train_here(shop.options("with")) == (0, "")
    for module in (os, signal):
        for name in LINUX_ONLY & set(dir(module)):
            monkeypatch.delattr(module, name)
    monkeypatch.setattr(sys, "platform", "darwin")
    assert train_here(shop.options("without", encoder_cache_dir=str(tmp_path / "other"))) == (0, "")
    assert outcome(tmp_path / "without") == outcome(tmp_path / "with")
    assert list((tmp_path / "other").glob("*/states.bin"))
    assert "core" in str(Device(torch.device("cpu")))


def test_without_proc_the_kernels_are_torch_s_choice():
    assert not kernels.mkl_lacks_avx512(Path("/nonexistent/cpuinfo"))


def test_windows_is_told_in_one_line(monkeypatch, capsys):
    monkeypatch.setattr(errors.os, "name", "nt")
    code = errors.run_command(lambda: pytest.fail("the command was run"))
    monkeypatch.undo()
    assert code == 2 and capsys.readouterr().err.count("\n") == 1
