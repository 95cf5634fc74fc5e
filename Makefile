# make demo | make test work alone on a fresh Debian or Ubuntu machine: make and Python >= 3.11 are enough.
# Everything is installed into .venv; nothing outside this folder is touched (but pip's and SoftNeuro's caches).

VENV    := .venv
BIN     := $(VENV)/bin
PLUGINS := $(patsubst %/pyproject.toml,%,$(wildcard plugins/*/pyproject.toml))
RECIPES := Makefile pyproject.toml $(PLUGINS:%=%/pyproject.toml)
PIP     := $(BIN)/python -m pip --quiet --disable-pip-version-check --no-input install
NEWEST  := import sys; sys.exit(sys.version_info < (3, 11))
PYTHON  ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11; do \
             $$p -c '$(NEWEST)' 2>/dev/null && { echo $$p; break; }; done)
WORKERS ?= 2
BENCH   ?=
SAY     := @printf '\033[1m==>\033[0m %s\n'

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help install demo test test-all bench check size clean

help:  ## this list
	@sed -n 's/^\([a-z-]*\):.*##/\1\t/p' $(MAKEFILE_LIST) | expand -t 12

install: $(VENV)/.stamp-test $(VENV)/.stamp-demo  ## .venv with the core, all plugins and the test tools

demo: $(VENV)/.stamp-demo  ## tune, explain and run a real trained model; writes out/digits/report.html
	@$(BIN)/python examples/digits/demo.py

test: $(VENV)/.stamp-test  ## the tests (about 15 minutes on 2 cores)
	@$(BIN)/python -m pytest -n $(WORKERS) --dist loadgroup -m 'not long'

test-all: $(VENV)/.stamp-test $(VENV)/.stamp-demo  ## the long lists too
	@$(BIN)/python -m pytest -n $(WORKERS) --dist loadgroup

bench: $(VENV)/.stamp-demo  ## side by side with other engines; options in BENCH="resnet50 --threads 1"
	@$(BIN)/python -c 'import openvino' 2>/dev/null || $(PIP) -e '.[bench]' || echo '    no openvino here'
	@$(BIN)/python benchmarks/peers.py $(BENCH)

check: $(VENV)/.stamp-test  ## ruff and mypy
	@$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy

size:  ## lines of every module of the core and of every plugin
	@find softneuro_core $(PLUGINS) -name '*.py' -not -path '*/tests/*' | xargs wc -l | sort -n

clean:  ## remove .venv and what the demo wrote
	rm -rf $(VENV) out

# Stamps make a second run cheap: pip runs again only when a pyproject or this file changed.
$(VENV)/.stamp-demo: $(RECIPES) | $(VENV)/.stamp-python
	$(SAY) 'installing softneuro-core, softneuro-cpu-numba and softneuro-qint8 with numpy, onnx and numba (about a minute)'
	@$(PIP) -e . -e plugins/cpu_numba -e plugins/qint8
	$(SAY) 'installing onnxruntime, to show its times beside ours'
	@$(PIP) -e '.[peers]' || echo '    not to be had here; the demo runs without it'
	@touch $@

$(VENV)/.stamp-test: $(RECIPES) | $(VENV)/.stamp-python
	$(SAY) 'installing the core, all plugins and the test tools (about two minutes)'
	@$(PIP) -e '.[test,check,ilp]' $(PLUGINS:%=-e %)
	$(SAY) 'installing an OpenCL implementation for CPUs (0.7 GB), to test the OpenCL plugin on'
	@$(PIP) -e 'plugins/opencl[cpu,check]' || echo '    not to be had here; where there is no OpenCL device its tests are skipped'
	$(SAY) 'installing onnxruntime: operators of com.microsoft mean what it computes'
	@$(PIP) -e '.[oracle]' || echo '    not to be had here; tests against it will be skipped'
	@touch $@

$(VENV)/.stamp-python:
	@test -n '$(PYTHON)' || { echo 'SoftNeuro needs Python 3.11 or newer; this machine has' \
	  "$$(python3 --version 2>/dev/null || echo none)."; \
	  echo 'Install one (Debian, Ubuntu: apt install python3.11 python3.11-venv) or name it: make PYTHON=/path/to/python3'; \
	  exit 1; }
	@$(PYTHON) -c '$(NEWEST)' || { echo "SoftNeuro needs Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) --version 2>&1)."; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { echo "$(PYTHON) has no venv module. Install it with:"; \
	  echo '    apt install $(notdir $(PYTHON))-venv        (as root, or with sudo in front)'; exit 1; }
	$(SAY) 'creating .venv with $(PYTHON)'
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear $(VENV)
	@touch $@
