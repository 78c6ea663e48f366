"""Chunks behind a past by a GPU's kernels against the same in fp64."""

import pytest
import torch

from audioflamingo.engine.contexts import _behind_past


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
@pytest.mark.parametrize(("num_past", "num_new"), [(700, 90), (64, 1), (1000, 1500)])
def test_chunks_behind_a_past_on_a_gpu(dtype, num_past, num_new):
    torch.manual_seed(0)
    query = torch.randn(num_new, 28, 128, device="cuda", dtype=dtype)
    keys, values = torch.randn(2, 1, 4, num_past + num_new, 128, device="cuda", dtype=dtype).unbind(0)
    wide = query.double().cpu(), keys.double().cpu(), values.double().cpu()
    torch.testing.assert_close(
        _behind_past(query, keys, values).double().cpu(),
        _behind_past(*wide),
        atol=2e-2 if dtype == torch.bfloat16 else 1e-4,
        rtol=0,
    )
