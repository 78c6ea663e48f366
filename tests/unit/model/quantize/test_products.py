"""Every product of rows with stored weights equals the plain one with the whole weight widened."""

import os

import pytest
import torch

from audioflamingo.model.kernels.joint import joint_weights
from audioflamingo.model.quantize import native
from audioflamingo.model.quantize.linear import QuantizedLinear
from audioflamingo.model.quantize.native.build import Unbuilt, compile_kernels
from audioflamingo.model.quantize.products import blockwise, fp8_product, fp8_rows, fp8_rows_twin
from audioflamingo.model.quantize.schemes import SCHEMES, quantize_int4
from audioflamingo.model.quantize.widen import widened, widened_twin

needs_kernels = pytest.mark.skipif(isinstance(native.library(), Unbuilt), reason=f"no kernels: {native.library()}")
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
NATIVE_TOLERANCE = 1e-4  # of the whole output: rounding x to 16 bits gives about 2e-5


def layer_and_rows(make_weight, scheme, num_outputs, num_inputs, num_rows):
    generator = torch.Generator().manual_seed(1)
    bias = torch.randn(num_outputs, generator=generator)
    layer = QuantizedLinear.of(scheme, make_weight(num_outputs, num_inputs), bias)
    return layer, torch.randn((num_rows, num_inputs), generator=generator)


def distance(found, expected):
    return float((found - expected).norm() / expected.norm())


@needs_kernels
@pytest.mark.parametrize("way", ["avx512", "avx2"])
@pytest.mark.parametrize("num_rows", [1, 2, 3, 4, 5, 9, 300])
@pytest.mark.parametrize(
    ("scheme", "num_outputs", "num_inputs"),
    [
        *[("int4", 33, 128), ("int4", 64, 640), ("int4", 35, 2176), ("int4", 5, 4224), ("int8", 33, 128)],
        *[("int8", 65, 600), ("int8", 7, 48), ("int8", 1, 1), ("int8", 39, 2048), ("int8", 6, 2100)],
    ],
)
def test_compiled_kernels_equal_their_twin(make_weight, scheme, num_outputs, num_inputs, num_rows, way):
    if way not in native.ways():
        pytest.skip(f"this processor has no {way}")
    layer, x = layer_and_rows(make_weight, scheme, num_outputs, num_inputs, num_rows)
    assert native.takes(layer, x)
    assert distance(native.product(layer, x, way), layer.plain(x)) < NATIVE_TOLERANCE


@needs_kernels
def test_both_ways_compute_in_the_same_whole_numbers(make_weight):
    layer, x = layer_and_rows(make_weight, "int4", 65, 640, 3)
    found = [native.product(layer, x, way) for way in native.ways()]
    assert all(torch.allclose(one, found[0], rtol=1e-5, atol=1e-5) for one in found)


@needs_kernels
@pytest.mark.parametrize("num_threads", [1, 2])
def test_every_task_of_a_product_is_done(make_weight, num_threads):
    layer, x = layer_and_rows(make_weight, "int4", 2500, 128, 1)
    before = torch.get_num_threads()
    torch.set_num_threads(num_threads)
    try:
        assert distance(native.product(layer, x), layer.plain(x)) < NATIVE_TOLERANCE
    finally:
        torch.set_num_threads(before)


@needs_kernels
@pytest.mark.parametrize("scheme", ["int4", "int8"])
@pytest.mark.parametrize("num_inputs", [128, 640])
def test_a_norm_before_and_a_sum_behind_a_product(make_weight, scheme, num_inputs):
    layer, x = layer_and_rows(make_weight, scheme, 65, num_inputs, 3)
    norm, state = torch.rand(num_inputs) + 0.5, torch.randn(3, 65)
    expected = state + layer.plain(torch.nn.functional.rms_norm(x, norm.shape, norm, 1e-6))
    rows = native.prepare(x, scheme, norm, 1e-6)
    found = native.multiply(layer, rows, state, bias=layer.bias, added=state)
    assert found is state
    assert distance(found, expected) < NATIVE_TOLERANCE


@needs_kernels
def test_what_is_fetched_ahead_is_not_dropped_by_the_compiler():
    """It was: gcc takes a function that only fetches for one without effect; a product then takes twice as long."""
    code = compile_kernels().read_bytes()
    fetches = [at for at in range(len(code) - 2) if code[at : at + 2] == b"\x0f\x18" and code[at + 2] >> 3 & 7 == 2]
    assert len(fetches) > 20  # prefetcht1; by chance there would be none or one


@needs_kernels
def test_a_huge_input_costs_precision_only_in_its_own_group(make_weight):
    layer, x = layer_and_rows(make_weight, "int4", 64, 640, 1)
    layer.bias.zero_()
    huge = x.clone()
    huge[0, 7] = 3000.0
    plain = layer.plain(huge)
    # Steps of 3000 / 32767 in 128 inputs, over an output that the one input makes up: sqrt(128 / 12) / 32767 = 1e-4.
    assert distance(native.product(layer, huge), plain) < 2e-4
    rest, rest_x = layer.dequantize(torch.float32)[:, 128:], x[:, 128:]
    own_group = native.product(layer, huge) - native.product(layer, torch.cat([huge[:, :128], 0 * rest_x], 1))
    assert distance(own_group, rest_x @ rest.T) < 2 * NATIVE_TOLERANCE


@needs_kernels
@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_what_is_not_finite_is_not_hidden(make_weight, bad):
    layer, x = layer_and_rows(make_weight, "int4", 32, 256, 2)
    x[1, 100] = bad
    found = layer(x)
    assert found[0].isfinite().all()
    assert not found[1].isfinite().any()


@needs_kernels
def test_other_dtypes_come_back_as_they_came(make_weight):
    layer, x = layer_and_rows(make_weight, "int8", 32, 256, 2)
    found = layer(x.bfloat16())
    assert found.dtype == torch.bfloat16
    assert distance(found.float(), layer.plain(x)) < 0.01


@needs_kernels
def test_compiled_quantising_equals_its_twin(make_weight):
    weight = make_weight(50, 384)
    weight[3] = 0
    for found, expected in zip(native.quantize_int4(weight), quantize_int4(weight), strict=True):
        assert torch.equal(found, expected)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_gradient_goes_through_to_the_input(make_weight, scheme):
    layer, x = layer_and_rows(make_weight, scheme, 32, 128, 3)
    x.requires_grad_()
    layer(x).sum().backward()
    assert torch.allclose(x.grad[0], layer.dequantize(torch.float32).sum(0), atol=1e-4)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_widening_some_rows_at_a_time_changes_nothing(make_weight, scheme):
    layer, x = layer_and_rows(make_weight, scheme, 70, 256, 9)
    for num_rows in (1, 16, 69, 70):
        assert torch.allclose(blockwise(layer, x, num_rows * 256 * 4), layer.plain(x), atol=1e-5)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_leading_dimensions_are_kept(make_weight, scheme):
    layer, x = layer_and_rows(make_weight, scheme, 32, 128, 6)
    assert torch.equal(layer(x.view(2, 3, 128)), layer(x).view(2, 3, 32))
    assert layer(x[:0]).shape == (0, 32)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_neighbours_are_one_layer_without_a_copy(make_weight, scheme):
    layers = QuantizedLinear.neighbours(scheme, (32, 16, 16), 128, torch.device("cpu"), torch.float32)
    for layer in layers:
        layer.write_rows(0, make_weight(layer.out_features, 128, layer.out_features))
        layer.bias.fill_(layer.out_features)
    joint = joint_weights(*layers)
    assert joint.data.data_ptr() == layers[0].codes.data_ptr()
    assert joint.scale.data_ptr() == layers[0].scale.data_ptr()
    x = torch.randn(3, 128, generator=torch.Generator().manual_seed(2))
    whole = QuantizedLinear(scheme, joint.data, joint.scale, joint.bias)
    assert torch.allclose(whole(x), torch.cat([layer(x) for layer in layers], 1), atol=1e-6)


def test_without_a_compiler_the_reason_is_told_and_torch_does_the_work(make_weight, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    reason = compile_kernels()
    assert isinstance(reason, Unbuilt)
    assert "compiler" in reason.reason or "are for" in reason.reason or "AVX2" in reason.reason
    monkeypatch.setattr(native, "library", lambda: reason)
    layer, x = layer_and_rows(make_weight, "int4", 32, 256, 2)
    assert not native.takes(layer, x)
    assert torch.allclose(layer(x), layer.plain(x), atol=1e-5)
    weight = make_weight(4, 256)
    assert torch.equal(native.quantize_int4(weight)[0], quantize_int4(weight)[0])


@needs_kernels
def test_a_compiler_that_fails_is_told_in_one_line(monkeypatch, tmp_path):
    compiler = tmp_path / "cc"
    compiler.write_text("#!/bin/sh\necho 'no such thing' >&2\nexit 1\n")
    compiler.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert compile_kernels() == Unbuilt(f"{compiler} failed: no such thing")
    assert list((tmp_path / "cache" / "audioflamingo").iterdir()) == []


@needs_kernels
def test_a_cache_that_others_can_write_to_is_not_trusted(monkeypatch, tmp_path):
    shared = tmp_path / "audioflamingo"
    shared.mkdir()
    shared.chmod(0o777)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    path = compile_kernels()
    assert path.parent != shared
    assert list(shared.iterdir()) == []


@pytest.mark.gpu
@needs_gpu
@pytest.mark.parametrize("num_rows", [1, 5, 64, 100, 513])
@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_gpu_gives_what_the_plain_product_gives(make_weight, scheme, num_rows):
    layer, x = layer_and_rows(make_weight, scheme, 256, 512, num_rows)
    layer, x = layer.cuda(), x.cuda().bfloat16()
    limit = 0.04 if scheme == "fp8" and num_rows > 64 else 0.01  # there x is in fp8 too
    wanted = layer.plain(x.float())
    layer.bias = layer.bias.bfloat16()
    assert distance(layer(x).float(), wanted) < limit


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=[pytest.mark.gpu, needs_gpu])])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
@pytest.mark.parametrize("num_inputs", [128, 2176])
@pytest.mark.parametrize("scheme", SCHEMES)
def test_one_pass_widens_to_the_same_bits(make_weight, scheme, num_inputs, dtype, device):
    if device == "cpu" and os.environ.get("TRITON_INTERPRET") != "1":
        pytest.skip("no GPU; with TRITON_INTERPRET=1 in the environment the kernel runs in Triton's interpreter")
    layer = QuantizedLinear.of(scheme, make_weight(37, num_inputs)).to(device)
    found = widened(scheme, layer.codes, layer.scale, dtype)
    wanted = widened_twin(scheme, layer.codes, layer.scale, dtype)
    if device == "cuda" or dtype == torch.float32:
        assert torch.equal(found, wanted)
    else:  # Triton's interpreter cuts bits off where a GPU rounds
        assert torch.allclose(found.float(), wanted.float(), rtol=2**-6, atol=0)


@pytest.mark.gpu
@needs_gpu
def test_fp8_inputs_cost_what_three_bits_cost(make_weight):
    layer, x = layer_and_rows(make_weight, "fp8", 256, 512, 100)
    layer, x = layer.cuda(), x.cuda().bfloat16()
    wanted = layer.plain(x.float())
    layer.bias = layer.bias.bfloat16()
    assert 0.005 < distance(fp8_product(layer, x).float(), wanted) < 0.04


@pytest.mark.gpu
@needs_gpu
def test_rows_become_the_codes_that_torch_gives():
    """On a GPU only: Triton's interpreter loses what is carried into the exponent."""
    x = torch.randn((33, 5000), generator=torch.Generator().manual_seed(0)).cuda().bfloat16()
    x[3] = 0
    (codes, scale), (expected, expected_scale) = fp8_rows(x), fp8_rows_twin(x)
    assert torch.allclose(scale, expected_scale, rtol=1e-6)
    same = codes.view(torch.uint8) == expected.view(torch.uint8)
    assert same.float().mean() > 0.999
    assert torch.allclose(codes.float(), expected.float(), rtol=2**-3)
