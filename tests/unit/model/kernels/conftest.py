import os

import pytest
import torch

from audioflamingo.model.kernels import has_triton

# Triton reads it when it is imported: to set it later would leave half of the kernels compiled.
IS_INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"


@pytest.fixture(params=[torch.float32, torch.float16], ids=["fp32", "fp16"])
def like(request):
    """An empty tensor where a kernel runs: on the GPU, or in Triton's interpreter, which knows no bf16 products."""
    if not has_triton():
        pytest.skip("triton is not installed")
    if not torch.cuda.is_available() and not IS_INTERPRETED:
        pytest.skip("no GPU; with TRITON_INTERPRET=1 in the environment the kernels run in Triton's interpreter")
    device = "cpu" if IS_INTERPRETED else "cuda"
    with torch.no_grad():
        yield torch.empty(0, dtype=request.param, device=device)
