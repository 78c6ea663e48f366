"""The model in plain PyTorch: AF-Whisper encoder, projector, Qwen2.5 decoder, and their weights."""
