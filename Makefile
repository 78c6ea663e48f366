# make demo | make test | make bench | make examples | make nano      Each sets up what it needs by itself, in .venv.
usable = $(1) -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1
PYTHON ?= $(shell for name in python3.12 python3.11 python3; do $(call usable,$$name) && break; done; echo $$name)
BIN := .venv/bin
export PIP_DISABLE_PIP_VERSION_CHECK = 1

.PHONY: demo test bench check examples nano clean

demo: .venv/run.stamp
	@echo '$$ flamingo ask examples/dog_then_bell.wav "What do you hear?"'
	@$(BIN)/flamingo ask examples/dog_then_bell.wav "What do you hear?"
	@echo '$$ flamingo transcribe examples/man_speaking.flac'
	@$(BIN)/flamingo transcribe examples/man_speaking.flac
	@echo 'The truth, and where this small model is wrong: examples/README.md. The command is .venv/bin/flamingo.'

test: .venv/dev.stamp check
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist worksteal

check: .venv/dev.stamp
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/codespell

bench: .venv/dev.stamp
	$(BIN)/flamingo bench cpu --beside transformers --out benchmarks/results
	$(BIN)/python -m benchmarks.report

# The sounds, their truth, and what the embedded model answers. Needs espeak-ng, flite and festival: see .ci/run.
examples: .venv/dev.stamp
	$(BIN)/python -m audioflamingo.world.examples --out examples
	$(BIN)/python -m audioflamingo.eval.examples --folder examples

# The embedded model from nothing: 85 minutes of training on one H200 with 16 cores, in pieces; the same command goes on.
nano: .venv/dev.stamp
	$(BIN)/python -m audioflamingo.train.nano_schedule --work runs/nano --workers $$(( $$(nproc) > 4 ? $$(nproc) - 3 : 1 )) \
		--pool-hours 420 --keep-hours 330 --first-hours 2

.venv/run.stamp: pyproject.toml setup.sh
	@bash setup.sh "$(PYTHON)" run
	@touch $@

.venv/dev.stamp: pyproject.toml setup.sh
	@bash setup.sh "$(PYTHON)" dev
	@touch $@ .venv/run.stamp

clean:
	rm -rf .venv build dist *.egg-info
