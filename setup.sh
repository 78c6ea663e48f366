#!/usr/bin/env bash
# Set up .venv with this package in it.   Usage: setup.sh PYTHON run|dev
#
# torch comes first: without a GPU its CPU build is a tenth of the size, so that is what is asked for, from wherever pip
# can get it; only if there is none does pip's default build come.
set -eu
python=$1 extra=$2
torch_version=2.13.0
if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
  echo "$python is missing or older than 3.11, which is needed. Name another: make PYTHON=/path/to/python3.12"
  exit 2
fi
if ! "$python" -c 'import venv, ensurepip' 2>/dev/null; then
  echo "$python has no venv module. On Debian: apt-get install python3-venv; or name another: make PYTHON=/path/to/python3"
  exit 2
fi
case $extra in
  run) package=. ;;
  dev) package='.[dev]' ;;
  *) echo "setup.sh PYTHON run|dev"; exit 2 ;;
esac
echo "setting up .venv with $("$python" --version), once; it takes a few minutes ..."
[ -x .venv/bin/python ] || "$python" -m venv .venv
.venv/bin/python -m pip --version >/dev/null 2>&1 || .venv/bin/python -m ensurepip >/dev/null
pip() { .venv/bin/python -m pip install -q "$@"; }
has_torch() { .venv/bin/python -c 'import importlib.util, sys; sys.exit(importlib.util.find_spec("torch") is None)'; }

if ! has_torch && ! command -v nvidia-smi >/dev/null 2>&1; then
  pip --no-index --no-deps "torch==$torch_version+cpu" 2>/dev/null ||
    pip --retries 0 --timeout 20 --index-url https://download.pytorch.org/whl/cpu "torch==$torch_version" 2>/dev/null ||
    echo "the CPU build of torch was not found; taking the default build"
fi
pip -e "$package"
