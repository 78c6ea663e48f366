"""`flamingo serve` as a process: it says where it is, ends quickly, and refuses in one line what cannot work."""

import io
import os
import re
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager

import httpx
import numpy as np
import openai
import pytest
import soundfile
from serving import DOG, ask_about

from audioflamingo.cli.main import main

KEY = {"authorization": "Bearer word"}


def silence(seconds):
    file = io.BytesIO()
    soundfile.write(file, np.zeros(seconds * 16_000, np.int16), 16_000, format="WAV")
    return file.getvalue()


@contextmanager
def process(*words, **environment):
    command = [sys.executable, "-m", "audioflamingo", "serve", *words]
    running = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env={**os.environ, **environment})
    try:
        yield running
    finally:
        running.kill()
        running.wait()
        running.stderr.close()


def address(running):
    for line in running.stderr:
        if found := re.search(r"served at (http://\S+)/v1;", line):
            return found[1]
    raise AssertionError("it ended before it served")


def test_serves_until_ctrl_c_with_a_request_running():
    with process("--port", "0", FLAMINGO_API_KEY="word") as running:
        url = address(running)
        assert httpx.get(f"{url}/v1/models").status_code == 401
        client = openai.OpenAI(base_url=f"{url}/v1", api_key="word", max_retries=0)
        schema = {"type": "array", "items": {"type": "integer"}, "minItems": 5_000}
        wish = {"type": "json_schema", "json_schema": {"name": "long", "schema": schema}}
        stream = client.chat.completions.create(
            model="nano", messages=ask_about(DOG), stream=True, response_format=wish, max_tokens=1_500
        )
        for _ in range(5):
            next(stream)
        sound = {"file": ("long.wav", silence(300))}
        with pytest.raises(httpx.ReadTimeout):  # its client is gone, and so is the work
            httpx.post(f"{url}/v1/audio/transcriptions", files=sound, headers=KEY, timeout=httpx.Timeout(20, read=0.3))
        begun_s = time.monotonic()
        running.send_signal(signal.SIGINT)
        with pytest.raises(openai.APIError, match="shutting down"):
            list(stream)
        client.close()
        assert running.wait(20) == 130
        assert time.monotonic() - begun_s < 8
        assert "Traceback" not in running.stderr.read()


def test_a_polite_end_is_no_error():
    with process("--port", "0", "--no-voice") as running:
        url = address(running)
        assert httpx.get(f"{url}/health").status_code == 200
        running.send_signal(signal.SIGTERM)
        assert running.wait(20) == 0


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--model", "no-such-model"], "no checkpoint 'no-such-model'"),
        (["--voice", "nobody"], "no voice 'nobody'"),
        (["--engine", "nobody"], "espeak-ng"),
        (["--host", "no.such.host.invalid"], "--host"),
        (["--port", "99999"], "0 to 65535"),
        (["--max-body-mb", "0"], "1 or more"),
        (["--api-key", ""], "--api-key is empty"),
        (["--api-key", "two words"], "plain word"),
    ],
)
def test_what_cannot_work_is_one_line(words, told, capsys):
    port = [] if "--port" in words else ["--port", "0"]
    assert main(["serve", *port, *words]) == 2
    captured = capsys.readouterr()
    assert told in captured.err
    assert captured.err.count("\n") == 1


def test_a_port_that_is_taken_is_known_before_the_model_is_loaded(capsys):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        assert main(["serve", "--port", port, "--model", "no-such-model"]) == 2
    assert f"port {port} cannot be used" in capsys.readouterr().err
