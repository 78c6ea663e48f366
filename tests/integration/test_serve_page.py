"""The page in a real browser: its answers are the server's, and it asks no other host."""

import http.client

import numpy as np
import pytest
import soundfile
from browser import CHROMIUM, Browser
from serving import EXAMPLES, Serving

from audioflamingo import load_model
from audioflamingo.prompt import TRANSCRIBE_PROMPT
from audioflamingo.speech.speaker import open_speaker

RATE = 24_000
TAB = 9
needs_browser = pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed: apt-get install chromium")


@pytest.fixture(scope="module")
def server():
    with Serving(load_model("nano", device="cpu")) as one:
        yield f"127.0.0.1:{one.port}"


@pytest.fixture
def page(server, tmp_path):
    with Browser(tmp_path) as browser:
        browser.open(f"http://{server}/")
        browser.wait("document.querySelector('#model').innerText === 'nano'")
        yield browser
        assert browser.problems == []
        assert all(one.startswith((f"http://{server}/", "blob:", "data:", "about:")) for one in browser.addresses)


def get(address, path):
    wire = http.client.HTTPConnection(address, timeout=10)
    wire.request("GET", path)
    response = wire.getresponse()
    return response, response.read().decode()


def test_every_file_of_the_page_is_there_and_may_load_nothing_from_elsewhere(server):
    response, text = get(server, "/")
    assert response.status == 200
    assert response.headers["content-type"] == "text/html; charset=utf-8"
    assert "default-src 'self'" in response.headers["content-security-policy"]
    assert "://" not in text
    names = {part.split('"')[0] for part in text.split('"/web/')[1:]}
    assert {"page.css", "page.js", "icon.svg"} <= names
    for name in {*names, "sound.js", "talk.js", "microphone.js"}:
        response, text = get(server, f"/web/{name}")
        assert response.status == 200, name
        assert response.headers["x-content-type-options"] == "nosniff"
        assert name.endswith(".svg") or "://" not in text
    assert get(server, "/web/__init__.py")[0].status == 404


@needs_browser
def test_a_sound_is_drawn_and_a_question_about_it_answered(page):
    page.choose_file("#file", EXAMPLES / "dog_then_bell.wav")
    page.wait("document.querySelector('#sound-length').innerText === '3.4 s'")
    for canvas in ("wave", "spectrum"):
        num_colours = page.run(
            f"(() => {{ const one = document.querySelector('#{canvas}');"
            "const data = new Uint32Array(one.getContext('2d').getImageData(0, 0, one.width, one.height).data.buffer);"
            "return new Set(data).size; })()"
        )
        assert num_colours > (1 if canvas == "wave" else 50)
    page.click("#question")
    page.write("What do you hear?")
    page.press("Enter", 13)
    page.wait("document.querySelector('.cost')?.innerText")
    assert page.text(".said") == "A dog barking, then a church bell ringing."
    assert not page.run("document.querySelector('.thoughts').checkVisibility()")
    page.click("#aloud")
    page.click(".chip:nth-child(2)")
    page.wait(
        "document.querySelectorAll('.answer').length === 2 && document.querySelector('.answer audio').duration > 0.5"
    )
    assert page.text(".said") == "A dog barking."
    page.click("#aloud")
    page.click("#think")
    page.click(".chip:nth-child(2)")
    page.wait("document.querySelectorAll('.answer').length === 3 && document.querySelector('.cost').innerText")
    assert page.text(".thoughts summary") == "Thoughts"
    assert not page.run("document.querySelector('.thoughts p').checkVisibility()")
    page.click(".thoughts summary")
    assert "dog" in page.text(".thoughts p")
    assert "dog" in page.text(".said").lower()


@needs_browser
def test_the_words_of_a_sound_come_with_their_times_and_are_read_aloud(page):
    page.choose_file("#file", EXAMPLES / "man_speaking.flac")
    page.wait("document.querySelector('#sound-length').innerText")
    page.click("#transcribe")
    page.wait("document.querySelector('.words') && document.querySelector('#stop').hidden")
    assert page.text(".words").startswith("0:00.")
    assert "should we invite" in page.text(".words")
    page.click(".hear")
    page.wait("document.querySelector('.answer audio').duration > 1")


@needs_browser
def test_what_the_server_refuses_is_said(page, tmp_path):
    (tmp_path / "letter.txt").write_text("no sound")
    (tmp_path / "letter.wav").write_text("no sound")
    for name, words in (("letter.txt", 'format is "txt"'), ("letter.wav", "holds text, not sound")):
        page.choose_file("#file", tmp_path / name)
        page.wait(f"document.querySelector('#sound-name').innerText === '{name}'")
        page.click("#send")
        page.wait("!document.querySelector('#error').hidden")
        assert words in page.text("#error-text")
        page.click("#error-close")
        assert page.run("document.querySelector('#error').hidden")
    assert len([one for one in page.problems if "status of 400" in one]) == len(page.problems) == 2
    page.problems.clear()
    page.click("#sound-remove")
    page.click("#transcribe")
    assert "first" in page.text("#error-text")


@needs_browser
def test_a_server_with_a_key_asks_for_it(tmp_path):
    with (
        Serving(load_model("nano", device="cpu"), has_voice=False, api_keys=("secret",)) as one,
        Browser(tmp_path) as page,
    ):
        page.open(one.url)
        page.wait("document.querySelector('#key-row').checkVisibility()")
        assert "API key" in page.text("#error-text")
        page.click("#key")
        page.write("secret")
        page.press("Enter", 13)
        page.wait("document.querySelector('#model').innerText === 'nano'")
        assert page.run("document.querySelector('#error').hidden")
        assert page.run("document.querySelector('#talk').disabled && document.querySelector('#aloud').disabled")
        assert page.text("#talk-state") == "This server has no voice."


@needs_browser
def test_everything_has_a_name_and_can_be_reached_and_read(page):
    tree = page.call("Accessibility.getFullAXTree")["nodes"]
    kinds = {"button", "checkbox", "textbox", "combobox", "meter", "image"}
    nameless = [
        node for node in tree
        if not node["ignored"] and node["role"]["value"] in kinds and not node.get("name", {}).get("value")
    ]  # fmt: skip
    assert nameless == []
    reached = []
    for _ in range(20):
        page.press("Tab", TAB)
        reached.append(page.run("document.activeElement.id"))
    assert {"theme", "file", "record", "question", "think", "send", "transcribe", "talk"} <= set(reached)
    for theme in ("light", "dark"):
        page.wait(f"document.documentElement.dataset.theme === '{theme}'")
        for ink, ground in [("text", "card"), ("quiet", "card"), ("quiet", "ground"), ("text", "soft"),
                            ("main-text", "main"), ("error", "error-ground")]:  # fmt: skip
            assert contrast(*(page.run(f"getComputedStyle(document.documentElement).getPropertyValue('--{one}')")
                              for one in (ink, ground))) >= 4.5, (theme, ink, ground)  # fmt: skip
        page.click("#theme")
    page.call("Emulation.setDeviceMetricsOverride", width=360, height=800, deviceScaleFactor=1, mobile=False)
    assert page.run("document.documentElement.scrollWidth") <= 360


def contrast(*colours):
    """Of two colours such as "#abc" or "#aabbcc", as the accessibility guidelines count it."""
    lights = []
    for colour in colours:
        digits = colour.strip().lstrip("#")
        digits = digits if len(digits) == 6 else "".join(2 * digit for digit in digits)
        parts = [int(digits[start : start + 2], 16) / 255 for start in (0, 2, 4)]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        lights.append(float(np.dot(linear, [0.2126, 0.7152, 0.0722])))
    return (max(lights) + 0.05) / (min(lights) + 0.05)


@needs_browser
def test_talking_to_the_page_and_interrupting_it(server, tmp_path):
    """The second sentence comes while the first is repeated: what was not heard of that leaves the page, too."""
    speaker = open_speaker()
    first = speaker.say("The dog is in the garden. She has three red apples. I would like a cup of tea.")
    second = speaker.say("She has three red apples.")

    def silence(duration_s):
        return np.zeros(round(duration_s * RATE), np.float32)

    sound = np.concatenate([silence(1), first, silence(3), second, silence(30)])
    soundfile.write(tmp_path / "microphone.wav", sound, RATE)
    with Browser(tmp_path, tmp_path / "microphone.wav") as page:
        page.open(f"http://{server}/")
        page.wait("document.querySelector('#model').innerText === 'nano'")
        page.run(f"document.querySelector('#turn-text').value = {TRANSCRIBE_PROMPT!r}")
        page.click("#talk")
        page.wait("document.querySelectorAll('#turns .model').length === 2")
        page.wait("document.querySelector('#talk-state').innerText === 'listening'")
        said = page.run(
            "[...document.querySelectorAll('#turns li')].map((one) => [one.className.trim(), one.innerText])"
        )
        assert [kind for kind, _ in said] == ["you", "model cut", "you", "model"]
        assert said[0][1].endswith("cup of tea")
        assert said[0][1].startswith(said[1][1].removesuffix(" (interrupted)")[:8])
        assert len(said[1][1]) < len(said[0][1])
        assert said[2][1] == said[3][1] == "she has three red apples"
        page.click("#talk")
        page.wait("document.querySelector('#talk').innerText === 'Start talking'")
        page.click("#record")
        page.wait("document.querySelector('#drop-hint').innerText.endsWith(' 1 s')")
        page.click("#record")
        page.wait("document.querySelector('#sound-length').innerText")
        assert page.text("#sound-name") == "recording.wav"
        assert page.problems == []
        assert {one.split("/v1/")[0] for one in page.addresses if one.startswith("ws")} == {f"ws://{server}"}
