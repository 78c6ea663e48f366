#!/usr/bin/env bash
# Set up .venv with this package in it.   Usage: setup.sh PYTHON run|dev
#
# torch comes first: without a GPU its CPU build is a tenth of the size, so that is what is asked for, from wherever pip
# can get it; only if there is none does pip's default build come.
set -eu
python=$1 extra=$2
torch_version=2.13.0
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed; set PYTHON=..."; exit 2; }
[ -x .venv/bin/python ] || "$python" -m venv .venv
pip() { .venv/bin/python -m pip install -q "$@"; }
has_torch() { .venv/bin/python -c 'import torch' 2>/dev/null; }

if ! has_torch && ! command -v nvidia-smi >/dev/null 2>&1; then
  pip --no-index --no-deps "torch==$torch_version+cpu" 2>/dev/null ||
    pip --retries 0 --timeout 20 --index-url https://download.pytorch.org/whl/cpu "torch==$torch_version" 2>/dev/null ||
    echo "the CPU build of torch was not found; taking the default build"
fi
if [ "$extra" = dev ]; then pip -e '.[dev]'; else pip -e .; fi
