"""The wheel holds every file of the package, and every module of it can be imported: `make wheel-check`.

Built by this environment's own setuptools and installed without dependencies into a new environment that borrows this
one's packages, so nothing is downloaded. The repository is not on the path of that environment.
"""

import shutil
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = "distilbart_mnli"
IMPORT_ALL = """
import importlib, pathlib, sys
for name in sys.argv[2:]:
    path = pathlib.Path(importlib.import_module(name).__file__)
    assert path.is_relative_to(sys.argv[1]), f"{name} comes from {path}"
"""


def files_in(folder: Path) -> set[str]:
    """The files of the package, from its folder's parent; what Python compiled is left out."""
    paths = (folder / PACKAGE).rglob("*")
    return {str(path.relative_to(folder)) for path in paths if path.is_file() and path.parent.name != "__pycache__"}


def module(file: str) -> str:
    """distilbart_mnli/train/loop.py -> distilbart_mnli.train.loop"""
    return file.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def pip(*words: object) -> None:
    command = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", *map(str, words)]
    subprocess.run(command, check=True)


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="wheel-") as name:
        folder = Path(name).resolve()
        source, environment = folder / "source", folder / "environment"
        shutil.copytree(ROOT / PACKAGE, source / PACKAGE)  # setuptools would leave build/ in the repository
        for file in ("pyproject.toml", "requirements.txt", "README.md", "LICENSE"):
            shutil.copy(ROOT / file, source)
        pip("wheel", "--no-build-isolation", "--no-deps", "--no-index", "--wheel-dir", folder, source)
        (wheel,) = folder.glob("*.whl")

        venv.create(environment, with_pip=False)
        python = environment / "bin" / "python"
        pip("--python", python, "install", "--no-deps", "--no-index", wheel)
        (installed,) = environment.glob("lib/python*/site-packages")
        # A line of a .pth file adds a folder, but reads no .pth files there: an editable install is not found by it.
        borrowed = [path for path in sys.path if path.endswith("site-packages")]
        (installed / "borrowed.pth").write_text("\n".join(borrowed), encoding="utf-8")

        files = files_in(ROOT)
        if files_in(installed) != files:
            raise SystemExit(f"in the repository or in the wheel alone: {sorted(files_in(installed) ^ files)}")
        modules = sorted(module(file) for file in files if file.endswith(".py"))
        # -I: neither PYTHONPATH nor the current folder is looked at.
        subprocess.run([python, "-I", "-c", IMPORT_ALL, installed, *modules], check=True, cwd=folder)
        print(f"{wheel.name}: {len(files)} files, {len(modules)} modules imported")


if __name__ == "__main__":
    main()
