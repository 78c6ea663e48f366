import importlib
import sys
from dataclasses import replace

import pytest
import torch

from audioflamingo.errors import OptionError
from audioflamingo.model import attention, flash_packages
from audioflamingo.model.attention import Packing, attend, attention_kernel
from audioflamingo.model.flash_packages import PACKAGES, attend_flash, installed, package_for
from audioflamingo.model.kernels import tuning

# What a package's function is called with and gives back, in plain torch: the packages themselves run on GPUs alone.
MODULE = """
import torch

def flash_attn_varlen_func(q, k, v, cu_seqlens_q=None, cu_seqlens_k=None, max_seqlen_q=None, max_seqlen_k=None,
                           causal=False):
    assert cu_seqlens_q.dtype == cu_seqlens_k.dtype == torch.int32
    assert max_seqlen_q == max_seqlen_k == int(cu_seqlens_q.diff().max())
    parts = []
    for begin, end in zip(cu_seqlens_q[:-1].tolist(), cu_seqlens_q[1:].tolist()):
        one = [x[begin:end].transpose(0, 1)[None] for x in (q, k, v)]
        out = torch.nn.functional.scaled_dot_product_attention(*one, is_causal=causal, enable_gqa=True)
        parts.append(out[0].transpose(0, 1))
    out = torch.cat(parts)
    return RETURNED
"""
RETURNED = {"flash-attn-3": "out", "flash-attn-4": "out, torch.zeros(())", "flash-attn": "out"}


@pytest.fixture
def site(tmp_path, monkeypatch):
    """A folder where modules can be put, and nothing known of packages before and after."""

    def forget():
        importlib.invalidate_caches()
        flash_packages._is_found.cache_clear()
        flash_packages._function.cache_clear()
        for name in [name for name in sys.modules if name.split(".")[0] in ("flash_attn", "flash_attn_interface")]:
            del sys.modules[name]

    monkeypatch.syspath_prepend(str(tmp_path))
    forget()
    yield tmp_path
    forget()


def put(site, package):
    file = site.joinpath(*package.module.split("."))
    if package.module == "flash_attn_interface":
        file = file.with_suffix(".py")
    else:  # a folder; the one above version 4's has no code of its own
        file = file / "__init__.py"
        file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(MODULE.replace("RETURNED", RETURNED[package.name]))


@pytest.mark.skipif(bool(installed()), reason="a package of FlashAttention is installed")
@pytest.mark.parametrize("package", PACKAGES, ids=lambda package: package.name)
@pytest.mark.parametrize("causal", [False, True])
def test_each_version_is_found_and_called_as_it_wants(site, package, causal):
    put(site, package)
    assert installed() == (package,)
    packing = Packing.of([5, 1, 9], torch.device("cpu"))
    torch.manual_seed(0)
    query, key, value = (torch.randn(packing.total, heads, 16) for heads in (4, 2, 2))
    found = attend_flash(package, query, key, value, packing.offsets, packing.longest, causal=causal)
    with attention_kernel("eager"):
        expected = attend(query, key, value, packing, causal=causal)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.skipif(bool(installed()), reason="a package of FlashAttention is installed")
def test_the_folder_that_version_4_leaves_is_not_taken_for_version_2(site):
    put(site, PACKAGES[1])
    assert [package.name for package in installed()] == ["flash-attn-4"]


@pytest.mark.skipif(bool(installed()), reason="a package of FlashAttention is installed")
def test_what_cannot_be_imported_harms_nobody_unasked(site):
    put(site, PACKAGES[2])
    (site / "flash_attn" / "__init__.py").write_text("raise ImportError('undefined symbol')")
    assert [package.name for package in installed()] == ["flash-attn"]
    nothing = torch.zeros(1, 2, 16)
    with pytest.raises(OptionError, match="flash_attn is installed, but cannot be used: undefined symbol"):
        attend_flash(PACKAGES[2], nothing, nothing, nothing, torch.tensor([0, 1], dtype=torch.int32), 1, causal=True)


@pytest.mark.skipif(bool(installed()), reason="a package of FlashAttention is installed")
def test_without_any_the_kernel_is_refused_with_what_there_is_to_install():
    with (
        pytest.raises(OptionError, match="one of flash-attn-3, flash-attn-4, flash-attn"),
        attention_kernel("flash_attn"),
    ):
        pass


def test_a_processor_has_none(site):
    put(site, PACKAGES[0])
    assert package_for(torch.device("cpu")) is None
    packing = Packing.of([4], torch.device("cpu"))
    heads = [torch.zeros(4, 2, 16)] * 3
    with attention_kernel("flash_attn"), pytest.raises(OptionError, match="which is not made for cpu"):
        attend(*heads, packing, causal=True)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
@pytest.mark.skipif(not installed(), reason="needs a package of FlashAttention")
def test_a_long_prompt_goes_the_way_that_a_trial_found_faster(monkeypatch):
    device = torch.device("cuda")
    if not attention._takes_cudnn(device):
        pytest.skip("needs a Hopper")
    monkeypatch.setattr(flash_packages, "PACKAGES", tuple(replace(one, is_ready=True) for one in PACKAGES))
    monkeypatch.setattr(tuning, "_chosen", {})
    chosen = attention._for_long(device, torch.bfloat16)
    (trial,) = (times for key, times in tuning.trials().items() if key[0] == "long prompts")
    assert {kernel for _, kernel in trial} == {"cudnn", "flash_attn"}
    assert chosen == trial[0][1]
    packing = Packing.of([5000], device)
    query, key, value = (torch.randn(5000, heads, 128, dtype=torch.bfloat16, device=device) for heads in (28, 4, 4))
    found = attend(query, key, value, packing, causal=True)
    with attention_kernel("varlen"):
        expected = attend(query, key, value, packing, causal=True)
    torch.testing.assert_close(found, expected, atol=2e-2, rtol=2e-2)
