"""Triton's side of each kernel. Nothing here may be imported where triton is not installed."""
