"""Sounds that are fetched from addresses: bounded in bytes, time and redirects, and never from a private network."""

import http.server
import threading

import pytest
from serving import DOG, Serving

from audioflamingo.server.errors import ApiError
from audioflamingo.server.fetch import fetch, is_public
from audioflamingo.server.limits import MIB


class Site(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        sound = DOG.read_bytes()
        if self.path.startswith("/to"):
            self.send_response(302)
            self.send_header("location", self.path.removeprefix("/to?"))
            self.end_headers()
        elif self.path == "/loop":
            self.send_response(302)
            self.send_header("location", "/loop")
            self.end_headers()
        elif self.path == "/slow":
            self.send_response(200)
            self.end_headers()
            for _ in range(50):
                self.wfile.write(b"x")
                if self.server.is_over.wait(0.1):
                    return
        elif self.path == "/dog.wav":
            self.send_response(200)
            self.end_headers()
            self.wfile.write(sound)
        else:
            self.send_error(404)

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def site():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Site)
    server.is_over = threading.Event()
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.is_over.set()
    server.shutdown()
    thread.join()
    server.server_close()


def get(url, max_bytes=10 * MIB, max_s=5.0):
    return fetch(url, max_bytes=max_bytes, max_s=max_s, allow_private=True)


def test_fetches_a_sound_also_behind_redirects(site):
    assert get(f"{site}/dog.wav") == DOG.read_bytes()
    assert get(f"{site}/to?/dog.wav") == DOG.read_bytes()


@pytest.mark.parametrize(
    ("path", "limits", "words"),
    [
        ("/dog.wav", {"max_bytes": 1_000}, "more than 1,000 bytes"),
        ("/slow", {"max_s": 0.3}, "too long"),
        ("/loop", {}, "redirects"),
        ("/missing", {}, "404"),
        ("/to?file:///etc/passwd", {}, "not http"),
        ("/to?gopher://x/", {}, "not http"),
    ],
)
def test_what_an_address_must_not_do(site, path, limits, words):
    with pytest.raises(ApiError, match=words):
        get(site + path, **limits)


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost", "[::1]", "10.0.0.1", "192.168.1.1", "169.254.169.254", "2130706433", "0x7f.1",
             "[::ffff:127.0.0.1]", "0.0.0.0", "[fe80::1]", "[64:ff9b::7f00:1]", "[2002:7f00:1::]", "100.64.0.1",
             "224.0.0.1"],
)  # fmt: skip
def test_private_addresses_are_never_asked(host):
    with pytest.raises(ApiError, match=r"of a private network|host is not known"):
        fetch(f"http://{host}:9/a.wav", max_bytes=1000, max_s=2)


def test_public_addresses_are_public():
    assert all(map(is_public, ("8.8.8.8", "1.1.1.1", "2606:4700::1111")))


def test_private_addresses_are_refused_by_a_server_that_fetches(site):
    part = {"type": "audio_url", "audio_url": {"url": f"{site}/dog.wav"}}
    with Serving(has_voice=False, allow_urls=True) as serving:
        answer = serving.chat(messages=[{"role": "user", "content": [part]}])
        assert answer.status_code == 400
        assert "private network" in answer.json()["error"]["message"]
