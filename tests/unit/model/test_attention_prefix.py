import pytest
import torch

from audioflamingo.model.attention import Packing, attend, attend_with_prefix, attention_kernel


def test_last_tokens_behind_a_prefix_get_what_they_get_in_the_whole_sequence():
    q_lengths, k_lengths = [3, 5, 1], [10, 5, 4]
    query, key, value = torch.randn(19, 6, 8), torch.randn(19, 2, 8), torch.randn(19, 2, 8)
    whole = attend(query, key, value, Packing.of(k_lengths, query.device), causal=True).split(k_lengths)
    want = torch.cat([part[-few:] for part, few in zip(whole, q_lengths, strict=True)])
    last = torch.cat([part[-few:] for part, few in zip(query.split(k_lengths), q_lengths, strict=True)])
    torch.testing.assert_close(attend_with_prefix(last, key, value, q_lengths, k_lengths), want)


@pytest.mark.gpu
@pytest.mark.parametrize("kernel", ["cudnn", "varlen", "auto"])
def test_kernels_of_a_gpu_agree_on_one_long_sequence(kernel):
    if not torch.cuda.is_available():
        pytest.skip("needs a GPU")
    query, key, value = (torch.randn(4500, heads, 128, device="cuda") for heads in (28, 4, 4))
    packing = Packing.of([4500], query.device)
    with attention_kernel("eager"):
        want = attend(query[:, :7], key[:, :1], value[:, :1], packing, causal=True)
    with attention_kernel(kernel):
        got = attend(query.bfloat16(), key.bfloat16(), value.bfloat16(), packing, causal=True)[:, :7]
    assert (got.float() - want).norm() / want.norm() < 1e-2
