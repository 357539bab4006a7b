# Everything a developer or a new user types. PYTHON= and VENV= may be overridden; TORCH_INDEX_URL= names an index
# that carries a CPU build of torch where pip's own configuration does not.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

PYTHON ?= python3
VENV ?= .venv
BUDGET ?= 635
OUTPUT ?= demo.mp4
BIN := $(VENV)/bin
STAMP := $(VENV)/.videosvc-installed
INDEX := $(if $(TORCH_INDEX_URL),--extra-index-url $(TORCH_INDEX_URL))
SOURCES := videosvc samplers kernels queue training bench tests docs/examples

# One sweep, and what is shipped of it: the table that the planner reads, its picture, and the presets, all of native
# weights because not every CPU has the others. Of 24 clips a setting, one step came out best: too few to tell them apart.
# Nothing is replaced before all of it is there.
CLIPS ?= 64
TUNED := runs/presets
PRESET = "$(BIN)/videosvc" tune --from $(TUNED)/quality.json --weights native --of best -o $(TUNED)

.PHONY: help venv demo test check fix bundled-model presets

help:
	@echo "make demo           the whole service, and a clip through it: demo.mp4"
	@echo "make test           lint, types, import contracts and every test; CI runs this"
	@echo "make check          the same without the tests"
	@echo "make fix            formats imports and mends what ruff can"
	@echo "make bundled-model  trains the bundled model anew; BUDGET=635 is in minutes"
	@echo "make presets        measures the bundled model and writes configs/quality and configs/presets; CLIPS=64 a setting"

venv: $(STAMP)

# Constraints pin the CPU stack; with a GPU the newest that fits its driver is better than our pins.
$(STAMP): pyproject.toml constraints-cpu.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "videosvc needs Python 3.11 or newer; name one: make PYTHON=python3.12" >&2; exit 1; }
	$(PYTHON) -m venv "$(VENV)"
	@if nvidia-smi -L >/dev/null 2>&1; then \
		set -x; "$(BIN)/python" -m pip install $(INDEX) -e '.[dev,cuda]'; \
	else \
		set -x; "$(BIN)/python" -m pip install $(INDEX) -c constraints-cpu.txt -e '.[dev]'; \
	fi
	@touch "$(STAMP)"

demo: $(STAMP)
	@"$(BIN)/python" docs/examples/demo.py "$(OUTPUT)"

test: check
	.ci/needs
	"$(BIN)/python" -m pytest

check: $(STAMP)
	"$(BIN)/ruff" check $(SOURCES)
	"$(BIN)/mypy"
	"$(BIN)/lint-imports"

fix: $(STAMP)
	"$(BIN)/ruff" check --fix $(SOURCES)

bundled-model: $(STAMP)
	"$(BIN)/python" -m training.toyworld.recipe --budget $(BUDGET)

presets: $(STAMP)
	"$(BIN)/videosvc" tune --sizes 64x64,96x96,128x128 --steps 1,2,4,8 --weights native --frame-caches native \
		--clips $(CLIPS) --of best -o $(TUNED)
	$(PRESET) --samplers flow_map --preset draft --name draft --at-least 0.9 \
		--description "a first look: the cheapest with 0.9 of the best quality"
	$(PRESET) --samplers flow_map --preset quality --name quality --at-least 1 \
		--description "the best quality that was measured"
	$(PRESET) --samplers euler --preset reference --name reference --at-least 1 \
		--description "no lever, at the size where that is best: what the others are measured against"
	$(PRESET) --samplers flow_map --preset balanced --name balanced --at-least 0.98 \
		--description "the default: the cheapest with 0.98 of the best quality"
	mkdir -p configs/quality
	cp $(TUNED)/quality.json configs/quality/toyworld.json
	cp $(TUNED)/{draft,balanced,quality,reference}.toml configs/presets/
	cp $(TUNED)/frontier.png docs/frontier.png
