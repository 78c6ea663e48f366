"""Speech out and turns in: streamed text to streamed sound, who is speaking, and when it is whose turn.

`stream`, `spoken` and `turns` are plain Python without tensors; `speaker` is what a program uses.
"""
