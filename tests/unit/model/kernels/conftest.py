import os

import pytest
import torch

from audioflamingo.model.kernels import has_triton


@pytest.fixture(params=[torch.float32, torch.float16], ids=["fp32", "fp16"])
def like(request, monkeypatch):
    """An empty tensor where a kernel runs: on the GPU, or in Triton's interpreter, which knows no bf16 products."""
    if not has_triton():
        pytest.skip("triton is not installed")
    if torch.cuda.is_available() and os.environ.get("TRITON_INTERPRET") != "1":
        device = "cuda"
    else:
        device = "cpu"
        monkeypatch.setenv("TRITON_INTERPRET", "1")
    with torch.no_grad():
        yield torch.empty(0, dtype=request.param, device=device)
