// Sounds in the browser: the microphone, WAV files, pictures, and speech that is played while it comes.

export const SPEECH_RATE_HZ = 24000;

/** Ask for the microphone; `onPiece` gets 20 ms of samples at a time. Returns what stops it. */
export async function openMicrophone(rateHz, onPiece) {
  if (!navigator.mediaDevices || !window.AudioWorkletNode) {
    throw new Error("This browser gives no microphone to this page. Open it over https, or as localhost.");
  }
  let stream;
  try {
    stream = await navigator.mediaDevices.getUserMedia({
      audio: { channelCount: 1, echoCancellation: true, noiseSuppression: true, autoGainControl: true },
    });
  } catch (error) {
    throw new Error(`There is no microphone to use (${error.message}). Connect one and allow this page to use it.`);
  }
  const context = new AudioContext({ sampleRate: rateHz });
  const stop = () => {
    stream.getTracks().forEach((track) => track.stop());
    context.close();
  };
  try {
    await context.audioWorklet.addModule("/web/microphone.js");
    const node = new AudioWorkletNode(context, "microphone");
    node.port.onmessage = (event) => onPiece(event.data);
    context.createMediaStreamSource(stream).connect(node);
  } catch (error) {
    stop();
    throw error;
  }
  return stop;
}

export function asPcm(samples) {
  const pcm = new Int16Array(samples.length);
  samples.forEach((sample, index) => { pcm[index] = Math.round(Math.max(-1, Math.min(1, sample)) * 32767); });
  return pcm;
}

export function toBase64(bytes) {
  const parts = [];
  for (let start = 0; start < bytes.length; start += 0x8000) {
    parts.push(String.fromCharCode(...bytes.subarray(start, start + 0x8000)));
  }
  return btoa(parts.join(""));
}

export function fromBase64(text) {
  return Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
}

/** A WAV file of 16-bit mono samples. */
export function wavFile(pcm, rateHz) {
  const head = new DataView(new ArrayBuffer(44));
  const word = (place, text) => [...text].forEach((letter, index) => head.setUint8(place + index, letter.charCodeAt(0)));
  word(0, "RIFF"); head.setUint32(4, 36 + 2 * pcm.length, true); word(8, "WAVEfmt ");
  head.setUint32(16, 16, true); head.setUint16(20, 1, true); head.setUint16(22, 1, true);
  head.setUint32(24, rateHz, true); head.setUint32(28, 2 * rateHz, true);
  head.setUint16(32, 2, true); head.setUint16(34, 16, true);
  word(36, "data"); head.setUint32(40, 2 * pcm.length, true);
  return new Blob([head, pcm], { type: "audio/wav" });
}

export function joined(pieces) {
  const whole = new pieces[0].constructor(pieces.reduce((sum, piece) => sum + piece.length, 0));
  let start = 0;
  for (const piece of pieces) { whole.set(piece, start); start += piece.length; }
  return whole;
}

/** Plays pieces of 16-bit samples one behind the other, from when the first comes. */
export class SpeechPlayer {
  constructor() {
    this.context = new AudioContext({ sampleRate: SPEECH_RATE_HZ });
    this.sources = new Set();
    this.endS = 0;
    this.beginS = null;
    this.onIdle = () => {};
  }

  play(bytes) {
    const pcm = new Int16Array(bytes.buffer, bytes.byteOffset, bytes.length >> 1);
    if (!pcm.length) return;
    const buffer = this.context.createBuffer(1, pcm.length, SPEECH_RATE_HZ);
    const channel = buffer.getChannelData(0);
    pcm.forEach((value, index) => { channel[index] = value / 32767; });
    const source = this.context.createBufferSource();
    source.buffer = buffer;
    source.connect(this.context.destination);
    const startS = Math.max(this.endS, this.context.currentTime + 0.02);
    if (this.beginS === null) this.beginS = startS;
    else this.beginS += startS - this.endS;  // a gap is no part of what was heard
    source.start(startS);
    this.endS = startS + buffer.duration;
    this.sources.add(source);
    source.onended = () => {
      this.sources.delete(source);
      if (!this.sources.size) this.onIdle();
    };
  }

  get isPlaying() { return this.sources.size > 0; }

  /** How much was heard, in ms, of what came since the last `stop`. */
  get heardMs() {
    if (this.beginS === null) return 0;
    return Math.max(0, 1000 * (Math.min(this.context.currentTime, this.endS) - this.beginS));
  }

  /** Be silent at once; the next piece begins a new speech. */
  stop() {
    for (const source of this.sources) { source.onended = null; source.stop(); }
    this.sources.clear();
    this.endS = 0;
    this.beginS = null;
  }

  close() { this.stop(); this.context.close(); }
}

/** Samples of a file as the browser decodes it: {samples, rateHz, durationS}. */
export async function decoded(bytes) {
  const context = new OfflineAudioContext(1, 1, 16000);
  const buffer = await context.decodeAudioData(bytes.slice(0));
  const samples = new Float32Array(buffer.length);
  for (let channel = 0; channel < buffer.numberOfChannels; channel++) {
    buffer.getChannelData(channel).forEach((value, index) => { samples[index] += value / buffer.numberOfChannels; });
  }
  return { samples, rateHz: buffer.sampleRate, durationS: buffer.duration };
}

function sized(canvas) {
  const scale = window.devicePixelRatio || 1;
  canvas.width = Math.max(1, Math.round(canvas.clientWidth * scale));
  canvas.height = Math.max(1, Math.round(canvas.clientHeight * scale));
  return canvas.getContext("2d");
}

const themed = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

export function drawWave(canvas, samples) {
  const context = sized(canvas);
  const { width, height } = canvas;
  context.fillStyle = themed("--wave");
  for (let x = 0; x < width; x++) {
    const start = Math.floor((x * samples.length) / width);
    const end = Math.max(start + 1, Math.floor(((x + 1) * samples.length) / width));
    let low = 1, high = -1;
    const step = Math.max(1, Math.floor((end - start) / 200));
    for (let index = start; index < end; index += step) {
      low = Math.min(low, samples[index]); high = Math.max(high, samples[index]);
    }
    const top = ((1 - high) / 2) * height, bottom = ((1 - low) / 2) * height;
    context.fillRect(x, top, 1, Math.max(1, bottom - top));
  }
}

const FFT_SIZE = 1024, MIN_DB = -90, MAX_DB = -20;

const mel = (hz) => 2595 * Math.log10(1 + hz / 700), hzOf = (mels) => 700 * (10 ** (mels / 2595) - 1);

/** Rows are mels, as the model hears; the rate is needed to tell them. */
export function drawSpectrum(canvas, samples, rateHz) {
  const context = sized(canvas);
  const { width, height } = canvas;
  const image = context.createImageData(width, height);
  const from = themed("--low").split(",").map(Number), to = themed("--high").split(",").map(Number);
  const real = new Float32Array(FFT_SIZE), imaginary = new Float32Array(FFT_SIZE);
  const bins = Array.from({ length: height }, (_, y) =>
    Math.floor((hzOf(mel(rateHz / 2) * ((height - 1 - y) / height)) / rateHz) * FFT_SIZE));
  for (let x = 0; x < width; x++) {
    const middle = Math.floor(((x + 0.5) * samples.length) / width);
    for (let index = 0; index < FFT_SIZE; index++) {
      const hann = 0.5 - 0.5 * Math.cos((2 * Math.PI * index) / FFT_SIZE);
      real[index] = (samples[middle + index - FFT_SIZE / 2] || 0) * hann;
      imaginary[index] = 0;
    }
    fft(real, imaginary);
    for (let y = 0; y < height; y++) {
      const bin = bins[y];
      const power = (real[bin] ** 2 + imaginary[bin] ** 2) / (FFT_SIZE * FFT_SIZE / 16);
      const level = Math.max(0, Math.min(1, (10 * Math.log10(power + 1e-12) - MIN_DB) / (MAX_DB - MIN_DB)));
      const place = 4 * (y * width + x);
      for (let part = 0; part < 3; part++) image.data[place + part] = from[part] + (to[part] - from[part]) * level;
      image.data[place + 3] = 255;
    }
  }
  context.putImageData(image, 0, 0);
}

/** In place, radix 2. */
function fft(real, imaginary) {
  const size = real.length;
  for (let index = 1, other = 0; index < size; index++) {
    let bit = size >> 1;
    for (; other & bit; bit >>= 1) other ^= bit;
    other ^= bit;
    if (index < other) {
      [real[index], real[other]] = [real[other], real[index]];
      [imaginary[index], imaginary[other]] = [imaginary[other], imaginary[index]];
    }
  }
  for (let span = 2; span <= size; span <<= 1) {
    const angle = (-2 * Math.PI) / span;
    for (let start = 0; start < size; start += span) {
      for (let index = 0; index < span / 2; index++) {
        const cos = Math.cos(angle * index), sin = Math.sin(angle * index);
        const a = start + index, b = a + span / 2;
        const re = real[b] * cos - imaginary[b] * sin, im = real[b] * sin + imaginary[b] * cos;
        real[b] = real[a] - re; imaginary[b] = imaginary[a] - im;
        real[a] += re; imaginary[a] += im;
      }
    }
  }
}
