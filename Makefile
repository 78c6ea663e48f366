# make demo | make test | make bench      Each sets up what it needs by itself, in .venv.
PYTHON ?= $(shell command -v python3.12 >/dev/null 2>&1 && python3.12 -c 'import venv' >/dev/null 2>&1 && echo python3.12 || echo python3)
BIN := .venv/bin
export PIP_DISABLE_PIP_VERSION_CHECK = 1

.PHONY: demo test bench check clean

demo: .venv/run.stamp
	@$(BIN)/flamingo ask examples/dog_then_bell.wav "What do you hear?"

test: .venv/dev.stamp check
	$(BIN)/python -m pytest

check: .venv/dev.stamp
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/codespell

bench: .venv/dev.stamp
	$(BIN)/python benchmarks/cpu.py

.venv/run.stamp: pyproject.toml setup.sh
	bash setup.sh "$(PYTHON)" run
	@touch $@

.venv/dev.stamp: pyproject.toml setup.sh
	bash setup.sh "$(PYTHON)" dev
	@touch $@ .venv/run.stamp

clean:
	rm -rf .venv build dist *.egg-info
