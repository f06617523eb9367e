# make quickstart   the main job at toy size: data, teacher, students, fine-tuning, a table (no downloads of models or data)
# make test         the tests
# make lint         ruff and mypy
# make stress       kill a training 50 times, resume it, compare the bits
# make gpu-check    what only a GPU can show, and its speed
# Every target makes the virtual environment first if it is not there.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
export PYTHONPATH := $(CURDIR)

.PHONY: quickstart test lint stress gpu-check test-xla clean

# One stamp a requirements file: a changed pin is installed, an unchanged one costs nothing.
$(VENV)/.installed: requirements.txt
	$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed, this is " + sys.version.split()[0] if sys.version_info < (3, 11) else 0)'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	touch $@

$(VENV)/.installed-dev: $(VENV)/.installed requirements-dev.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	touch $@

quickstart: $(VENV)/.installed
	$(BIN)/python examples/quickstart/quickstart.py

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

test: $(VENV)/.installed-dev
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadgroup --durations 15

# SIGKILL a small training 50 times, resume it, compare the weights with the uninterrupted run's.
KILLS ?= 50
NUM_PROCESSES ?= 1
stress: $(VENV)/.installed-dev
	$(BIN)/python -m tests.stress --kills $(KILLS) --num_processes $(NUM_PROCESSES)

# The GPU part of the tests and the one-GPU speed benchmark (bart-large's size, random weights). Fails at once without one.
# 128 rows in one forward pass: the recipe's step in one piece, which a large GPU holds.
gpu-check: $(VENV)/.installed-dev
	$(BIN)/python -c 'import sys, torch; sys.exit(None if torch.cuda.is_available() else "gpu-check needs a CUDA GPU, and torch sees none")'
	mkdir -p outputs
	$(BIN)/python -m pytest tests/test_gpu.py
	$(BIN)/python -m benchmarks.train_speed --size large --device cuda --dtype bf16 --batch_size 128 \
		--gradient_accumulation_steps 1 --output outputs/gpu_speed.json

clean:
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .hypothesis
