// The page: a sound, questions about it, its words, and a spoken conversation. All answers come from this server.
import { SPEECH_RATE_HZ, SpeechPlayer, asPcm, decoded, drawSpectrum, drawWave, fromBase64, joined, openMicrophone,
  toBase64, wavFile } from "/web/sound.js";
import { Talk } from "/web/talk.js";

const RECORDING_RATE_HZ = 16000;
const $ = (id) => document.getElementById(id);
const page = { model: null, voices: [], sound: null, earlier: [], stopRecording: null, abort: null, talk: null };

// Errors

function showError(text) {
  $("error-text").textContent = text;
  $("error").hidden = false;
}
const clearError = () => { $("error").hidden = true; };
$("error-close").onclick = clearError;

/** Ask the server; what it refuses becomes an Error with its own words. */
async function ask(path, options = {}) {
  const key = $("key").value.trim();
  const headers = { ...options.headers, ...(key && { Authorization: `Bearer ${key}` }) };
  let response;
  try {
    response = await fetch(path, { ...options, headers });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Error("The server cannot be reached. Check that it still runs, then try again.");
  }
  if (response.ok) return response;
  if (response.status === 401) $("key-row").hidden = false;
  const body = await response.json().catch(() => null);
  throw new Error(body?.error?.message ?? `The server answered ${response.status}.`);
}

/** The objects of a stream of server-sent events. */
async function* events(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    text += value;
    const parts = text.split(/\r?\n\r?\n/);
    text = parts.pop();
    for (const part of parts) {
      const data = part.split("\n").filter((line) => line.startsWith("data:")).map((line) => line.slice(5)).join("\n");
      if (!data || data.trim() === "[DONE]") continue;
      const event = JSON.parse(data);
      if (event.error) throw new Error(event.error.message);
      yield event;
    }
  }
}

// The model

async function meetModel() {
  try {
    const [model] = (await (await ask("/v1/models")).json()).data;
    page.model = model.id;
    page.voices = model.voices ?? [];
    $("model").textContent = model.id;
    $("think").disabled = !model.thinks;
    if (!model.thinks) $("think").parentElement.title = "This model cannot think.";
    $("aloud").disabled = $("talk").disabled = !page.voices.length;
    $("voice-row").hidden = !page.voices.length;
    $("voice").replaceChildren(...page.voices.map((name) => new Option(name, name)));
    if (!page.voices.length) $("talk-state").textContent = "This server has no voice.";
    clearError();
  } catch (error) {
    $("model").textContent = "";
    showError(error.message);
  }
}
$("key").onchange = meetModel;
$("key-row").onsubmit = (event) => event.preventDefault();  // Enter changes the key, which is enough

// The sound

async function takeSound(blob, name) {
  clearError();
  const bytes = await blob.arrayBuffer();
  const format = name.includes(".") ? name.split(".").pop().toLowerCase() : "wav";
  page.sound = { name, blob, format: format === "oga" ? "ogg" : format === "aif" ? "aiff" : format };
  page.sound.base64 = toBase64(new Uint8Array(bytes));
  page.earlier = [];
  $("sound").hidden = false;
  $("sound-name").textContent = name;
  if ($("player").src) URL.revokeObjectURL($("player").src);
  $("player").src = URL.createObjectURL(blob);
  try {
    page.sound.heard = await decoded(bytes);
    $("sound-length").textContent = `${page.sound.heard.durationS.toFixed(1)} s`;
  } catch {
    $("sound-length").textContent = "";
  }
  const isDrawn = Boolean(page.sound.heard);
  $("picture").hidden = $("player").hidden = !isDrawn;
  $("no-picture").hidden = isDrawn;
  draw();
}

function draw() {
  if (!page.sound?.heard) return;
  drawWave($("wave"), page.sound.heard.samples);
  drawSpectrum($("spectrum"), page.sound.heard.samples, page.sound.heard.rateHz);
}

$("file").onchange = () => { if ($("file").files[0]) takeSound($("file").files[0], $("file").files[0].name); };
$("sound-remove").onclick = () => {
  page.sound = null;
  page.earlier = [];
  $("file").value = "";
  $("player").pause();
  $("sound").hidden = true;
};
for (const kind of ["dragover", "dragleave", "drop"]) {
  document.addEventListener(kind, (event) => {
    event.preventDefault();
    $("drop").classList.toggle("over", kind === "dragover");
    const [file] = (kind === "drop" && event.dataTransfer.files) || [];
    if (file) takeSound(file, file.name);
  });
}
$("player").ontimeupdate = () => {
  const isThere = Boolean(page.sound?.heard) && $("player").currentTime > 0;
  $("cursor").hidden = !isThere;
  if (isThere) $("cursor").style.left = `${(100 * $("player").currentTime) / page.sound.heard.durationS}%`;
};
$("picture").onclick = (event) => {
  const box = $("picture").getBoundingClientRect();
  $("player").currentTime = ((event.clientX - box.left) / box.width) * page.sound.heard.durationS;
};
new ResizeObserver(draw).observe($("picture"));

$("record").onclick = async () => {
  if (page.stopRecording) {
    page.stopRecording();
    return;
  }
  const pieces = [];
  try {
    const stop = await openMicrophone(RECORDING_RATE_HZ, (piece) => {
      pieces.push(piece);
      $("drop-hint").textContent = `recording, ${(pieces.length / 50).toFixed(0)} s`;
    });
    $("record").textContent = "Stop recording";
    $("record").classList.add("recording");
    page.stopRecording = () => {
      stop();
      page.stopRecording = null;
      $("record").textContent = "Record";
      $("record").classList.remove("recording");
      $("drop-hint").textContent = "or drop one here";
      if (pieces.length) takeSound(wavFile(asPcm(joined(pieces)), RECORDING_RATE_HZ), "recording.wav");
    };
  } catch (error) {
    showError(error.message);
  }
};

// Answers

function addAnswer(asked) {
  const answer = $("answer-template").content.firstElementChild.cloneNode(true);
  answer.querySelector(".asked").textContent = asked;
  $("answers").prepend(answer);
  return answer;
}

function busy(text) {
  $("state").textContent = text;
  $("stop").hidden = !text;
  $("send").disabled = $("transcribe").disabled = Boolean(text);
}
$("stop").onclick = () => page.abort?.abort();

/** Run work that Stop can end; what goes wrong is shown. */
async function working(text, work) {
  clearError();
  page.abort = new AbortController();
  busy(text);
  try {
    await work(page.abort.signal);
  } catch (error) {
    if (error.name !== "AbortError") showError(error.message);
  } finally {
    busy("");
  }
}

function messagesFor(question) {
  const sound = page.sound && { type: "input_audio", input_audio: { data: page.sound.base64, format: page.sound.format } };
  const earlier = $("follow").checked ? page.earlier : [];
  const hasSound = earlier.length > 0 && earlier[0].content[0]?.type === "input_audio";
  const content = [...(sound && !hasSound ? [sound] : []), { type: "text", text: question }];
  return [...earlier, { role: "user", content }];
}

async function answerTo(question, signal) {
  const messages = messagesFor(question);
  const isAloud = $("aloud").checked;
  const body = { model: page.model, messages, stream: true, stream_options: { include_usage: true } };
  if ($("think").checked) body.think = true;
  if (isAloud) Object.assign(body, { modalities: ["text", "audio"], audio: { voice: $("voice").value, format: "pcm16" } });
  const begun = performance.now();
  const response = await ask("/v1/chat/completions", {
    method: "POST", signal, headers: { "Content-Type": "application/json" }, body: JSON.stringify(body),
  });
  const answer = addAnswer(question);
  const player = isAloud ? new SpeechPlayer() : null;
  signal.addEventListener("abort", () => player?.stop());
  const said = { text: "", thoughts: "", pcm: [] };
  try {
    for await (const event of events(response)) {
      const delta = event.choices[0]?.delta ?? {};
      said.thoughts += delta.reasoning_content ?? "";
      said.text += delta.content ?? delta.audio?.transcript ?? "";
      if (delta.audio?.data) {
        const bytes = fromBase64(delta.audio.data);
        said.pcm.push(bytes);
        player.play(bytes);
      }
      showAnswer(answer, said);
      if (event.usage) {
        const seconds = (performance.now() - begun) / 1000;
        answer.querySelector(".cost").textContent =
          `${seconds.toFixed(1)} s, ${event.usage.prompt_tokens} + ${event.usage.completion_tokens} tokens`;
      }
    }
  } finally {
    if (said.pcm.length) offerSound(answer, wavFile(new Int16Array(joined(said.pcm).buffer), SPEECH_RATE_HZ));
    else offerReading(answer, said.text);
  }
  page.earlier = [...messages, { role: "assistant", content: said.text }];
}

function showAnswer(answer, said) {
  answer.querySelector(".said").textContent = said.text;
  answer.querySelector(".thoughts").hidden = !said.thoughts.trim();
  answer.querySelector(".thoughts p").textContent = said.thoughts.trim();
}

function offerSound(answer, blob) {
  const audio = answer.querySelector("audio");
  audio.src = URL.createObjectURL(blob);
  audio.hidden = false;
  return audio;
}

function offerReading(answer, text) {
  const button = answer.querySelector(".hear");
  button.hidden = !page.voices.length || !text.trim();
  button.onclick = () => working("speaking …", async (signal) => {
    const response = await ask("/v1/audio/speech", {
      method: "POST", signal, headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ model: page.model, input: text, voice: $("voice").value, response_format: "pcm" }),
    });
    const pcm = new Int16Array(await response.arrayBuffer());
    button.hidden = true;
    await offerSound(answer, wavFile(pcm, SPEECH_RATE_HZ)).play().catch(() => {});
  });
}

$("ask").onsubmit = (event) => {
  event.preventDefault();
  if ($("send").disabled) return;
  const question = $("question").value.trim() || $("question").placeholder;
  working("answering …", (signal) => answerTo(question, signal));
};
$("question").onkeydown = (event) => {
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
    event.preventDefault();
    $("ask").requestSubmit();
  }
};
for (const chip of $("suggestions").children) {
  chip.onclick = () => { $("question").value = chip.textContent; $("ask").requestSubmit(); };
}

// Words

const clock = (seconds) => `${Math.floor(seconds / 60)}:${(seconds % 60).toFixed(1).padStart(4, "0")}`;

$("transcribe").onclick = () => {
  if (!page.sound) {
    showError("Choose, drop or record a sound first.");
    return;
  }
  const { blob, name } = page.sound;
  working("transcribing …", async (signal) => {
    const form = new FormData();
    form.append("file", blob, name);
    form.append("model", page.model);
    form.append("response_format", "verbose_json");
    const found = await (await ask("/v1/audio/transcriptions", { method: "POST", signal, body: form })).json();
    const answer = addAnswer(`Words of ${name}`);
    const list = document.createElement("ol");
    list.className = "words";
    for (const segment of found.segments ?? []) {
      const row = document.createElement("li"), time = document.createElement("button");
      time.type = "button";
      time.className = "plain";
      time.textContent = `${clock(segment.start)} – ${clock(segment.end)}`;
      time.title = "Play from here";
      time.onclick = () => { $("player").currentTime = segment.start; $("player").play(); };
      row.append(time, segment.text.trim());
      list.append(row);
    }
    if (list.children.length) answer.querySelector(".said").replaceWith(list);
    else answer.querySelector(".said").textContent = found.text || "(no words)";
    offerReading(answer, found.text);
  });
};

// Talk

function turn(item, who, text) {
  let row = document.querySelector(`[data-item="${item}"]`);
  if (!row) {
    row = document.createElement("li");
    row.dataset.item = item;
    row.className = who;
    $("turns").append(row);
  }
  row.textContent = text;
  return row;
}

$("talk").onclick = async () => {
  if (page.talk) {
    page.talk.stop();
    return;
  }
  clearError();
  const options = {
    key: $("key").value.trim(), voice: $("voice").value, turnText: $("turn-text").value.trim(), alone: $("alone").checked,
  };
  page.talk = new Talk(options, {
    state: (text) => { $("talk-state").textContent = text; },
    level: (value) => { $("level").value = value; },
    you: (item, text) => turn(item, "you", text),
    model: (item, text, isCut) => turn(item, "model", text || "…").classList.toggle("cut", isCut),
    error: showError,
    end: () => {
      page.talk = null;
      $("level").hidden = true;
      $("talk").textContent = "Start talking";
      $("talk").setAttribute("aria-pressed", "false");
    },
  });
  $("talk").textContent = "Stop talking";
  $("talk").setAttribute("aria-pressed", "true");
  $("level").hidden = false;
  try {
    await page.talk.start();
  } catch (error) {
    page.talk?.stop();
    showError(error.message);
  }
};

// Light and dark

function useTheme(name) {
  document.documentElement.dataset.theme = name;
  draw();
}
const system = matchMedia("(prefers-color-scheme: dark)");
useTheme(localStorage.getItem("theme") ?? (system.matches ? "dark" : "light"));
system.onchange = () => { if (!localStorage.getItem("theme")) useTheme(system.matches ? "dark" : "light"); };
$("theme").onclick = () => {
  const name = document.documentElement.dataset.theme === "dark" ? "light" : "dark";
  localStorage.setItem("theme", name);
  useTheme(name);
};

meetModel();
