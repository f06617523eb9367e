# make quickstart   the main job at toy size: data, teacher, students, fine-tuning, a table (no downloads of models or data)
# make mini-reproduction BERT=... DATA_DIR=...   a real teacher and its four students on MNLI (examples/mini_reproduction/)
# make test         the tests
# make test-fast    the unit tests alone
# make lint         ruff and mypy
# make wheel-check  build the wheel, install it, import every module from there
# make test-xla     the training on XLA, on the CPU; tells how many graphs were compiled
# make test-js      the exported model in JavaScript, against Python (Node is needed)
# make stress       kill a training 50 times, resume it, compare the bits
# make attack       damaged and hostile files, a Hub that lies: a verdict on each of some thousand small attacks
# make gpu-check    what only a GPU can show, and its speed
# Every target makes the virtual environment first if it is not there.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
export PYTHONPATH := $(CURDIR)

.PHONY: quickstart mini-reproduction lint test test-fast wheel-check test-xla test-js stress attack gpu-check clean

# One stamp a requirements file: a changed pin is installed, an unchanged one costs nothing.
$(VENV)/.installed: requirements.txt
	$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed, this is " + sys.version.split()[0] if sys.version_info < (3, 11) else 0)'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	touch $@

$(VENV)/.installed-dev: $(VENV)/.installed requirements-dev.txt requirements-onnx.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	touch $@

quickstart: $(VENV)/.installed
	$(BIN)/python examples/quickstart/quickstart.py

# Optional: REVISION, ZERO_SHOT=topics.jsonl, OUTPUT_DIR, MAX_TRAIN_SAMPLES, MAX_EVAL_SAMPLES.
OUTPUT_DIR ?= outputs/mini_reproduction
mini-reproduction: $(VENV)/.installed
	@$(BIN)/python examples/mini_reproduction/reproduce.py --bert "$(BERT)" --data_dir "$(DATA_DIR)" \
		--output_dir "$(OUTPUT_DIR)" $(if $(REVISION),--revision "$(REVISION)") \
		$(if $(ZERO_SHOT),--zero_shot "$(ZERO_SHOT)") \
		$(if $(MAX_TRAIN_SAMPLES),--max_train_samples "$(MAX_TRAIN_SAMPLES)") \
		$(if $(MAX_EVAL_SAMPLES),--max_eval_samples "$(MAX_EVAL_SAMPLES)")

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# Tests that launch several processes can meet a busy machine; what fails is run once more, alone, and must pass then.
# The second run tells how many tests passed only there (tests/conftest.py).
PYTEST := $(BIN)/python -m pytest
TWO_AT_ONCE := -n 2 --dist loadgroup
test: $(VENV)/.installed-dev
	rm -rf .pytest_cache
	$(PYTEST) $(TWO_AT_ONCE) --durations 15 || \
		{ test $$? -eq 1 && echo "what failed, once more and alone:" && \
		$(PYTEST) --last-failed --last-failed-no-failures none; }

test-fast: $(VENV)/.installed-dev
	$(PYTEST) $(TWO_AT_ONCE) tests/unit -m "not slow"

wheel-check: $(VENV)/.installed-dev
	$(BIN)/python -m tests.support.check_wheel

# The training on XLA, with the CPU in place of a TPU: an environment of its own, because torch_xla 2.9 needs torch 2.9.
VENV_XLA := .venv-xla
$(VENV_XLA)/.installed: requirements-xla.txt
	$(PYTHON) -c 'import sys; sys.exit("torch_xla 2.9 needs Python 3.11 to 3.13, this is " + sys.version.split()[0] if not (3, 11) <= sys.version_info < (3, 14) else 0)'
	test -x $(VENV_XLA)/bin/python || $(PYTHON) -m venv $(VENV_XLA)
	$(VENV_XLA)/bin/python -m pip install --quiet --disable-pip-version-check -r requirements-xla.txt
	touch $@

# XLA's CPU back end unoptimised: what takes the time here is compiling.
test-xla: $(VENV_XLA)/.installed
	PJRT_DEVICE=CPU XLA_FLAGS=--xla_backend_optimization_level=0 OMP_NUM_THREADS=1 \
		$(VENV_XLA)/bin/python -m pytest tests/xla --durations 5

# transformers.js, in Node, on an exported folder against Python's pipeline: a tiny one, or MODEL (with SOURCE, a folder
# that has the weights too, if MODEL has none) and the texts and labels of TEXTS, JSON lines.
tests/js/node_modules/.installed: tests/js/package.json tests/js/package-lock.json
	cd tests/js && npm ci --no-progress
	touch $@

test-js: $(VENV)/.installed-dev tests/js/node_modules/.installed
	MODEL="$(MODEL)" SOURCE="$(SOURCE)" TEXTS="$(TEXTS)" $(BIN)/python -m pytest tests/js -rP

# SIGKILL a small training 50 times, resume it, compare the weights with the uninterrupted run's.
KILLS ?= 50
NUM_PROCESSES ?= 1
stress: $(VENV)/.installed-dev
	$(BIN)/python -m tests.support.stress --kills $(KILLS) --num_processes $(NUM_PROCESSES)

# Damage and lies of every kind, each with its verdict, as a Markdown table: about 15 minutes. KIND: students, caches, hubs ...
attack: $(VENV)/.installed-dev
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.support.attack $(if $(KIND),--kind "$(KIND)")

# The GPU part of the tests and the one-GPU speed benchmark (bart-large's size, random weights). Fails at once without one.
# 128 rows in one forward pass: the recipe's step in one piece, which a large GPU holds.
gpu-check: $(VENV)/.installed-dev
	$(BIN)/python -c 'import sys, torch; sys.exit(None if torch.cuda.is_available() else "gpu-check needs a CUDA GPU, and torch sees none")'
	mkdir -p outputs
	$(BIN)/python -m pytest tests/end_to_end/test_gpu.py
	$(BIN)/python -m benchmarks.train_speed --size large --device cuda --dtype bf16 --batch_size 128 \
		--gradient_accumulation_steps 1 --output outputs/gpu_speed.json

clean:
	rm -rf $(VENV) $(VENV_XLA) .mypy_cache .pytest_cache .ruff_cache .hypothesis
