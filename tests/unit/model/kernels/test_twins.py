"""The kernels' twins against the model's own modules, which are the judge."""

import torch

from audioflamingo.config import DecoderConfig
from audioflamingo.model.decoder import RMSNorm, SwiGLU, fuse_projections, rotary_tables, rotate
from audioflamingo.model.kernels import Heads, add_rms_norm, half_tables, rotate_in_place, swiglu
from audioflamingo.model.kernels.joint import joint_weights

TINY = DecoderConfig(vocab_size=64, width=64, num_layers=1, num_heads=4, num_kv_heads=2, head_dim=32, ffn_width=96)


def test_norm_rounds_like_the_module():
    norm = RMSNorm(64, 1e-6).eval().bfloat16()
    norm.weight.data.normal_()
    x, delta = torch.randn(2, 5, 64).bfloat16()
    total, out = add_rms_norm(x, delta, norm.weight, norm.eps)
    assert torch.equal(total, x + delta)
    assert torch.equal(out, norm(x + delta))


def test_rotary_positions_round_like_the_module():
    heads = Heads(4, 2, 32)
    qkv = torch.randn(3, heads.row_width).bfloat16()
    positions = torch.tensor([0, 9, 31_000])
    query, key, value = (part.clone() for part in heads.split(qkv))
    cos, sin = rotary_tables(positions, 32, 1e6, torch.bfloat16)
    rotate_in_place(qkv, half_tables(32_000, 32, 1e6, qkv), positions, heads)
    turned = heads.split(qkv)
    assert torch.equal(turned[0], rotate(query, cos, sin))
    assert torch.equal(turned[1], rotate(key, cos, sin))
    assert torch.equal(turned[2], value)


def test_gate_of_joint_projections_is_the_modules():
    mlp = SwiGLU(TINY).eval()
    x = torch.randn(3, 64)
    copied = joint_weights(mlp.gate_proj, mlp.up_proj).data
    fuse_projections(mlp)
    viewed = joint_weights(mlp.gate_proj, mlp.up_proj).data
    assert torch.equal(copied, viewed)
    assert viewed.data_ptr() == mlp.gate_proj.weight.data_ptr()
    torch.testing.assert_close(mlp.down_proj(swiglu(x @ viewed.T)), mlp(x))
