// A spoken conversation: the microphone to /v1/realtime, the answer to the loudspeaker, with interruptions.
import { SPEECH_RATE_HZ, SpeechPlayer, asPcm, fromBase64, openMicrophone, toBase64 } from "/web/sound.js";

const KEY_PROTOCOL = "openai-insecure-api-key.";

export class Talk {
  /**
   * options: {key, voice, turnText, alone}; show: {state(text), you(item, text), model(item, text, isCut), level(x),
   * error(text), end()}.
   */
  constructor(options, show) {
    this.options = options;
    this.show = show;
    this.answer = null;  // {item, text} that is heard or on its way
    this.finished = [];  // items of an exchange, to be deleted where every turn stands by itself
  }

  async start() {
    this.player = new SpeechPlayer();
    this.player.onIdle = () => { if (!this.answer || this.answer.isDone) this.settle(); };
    try {
      this.stopMicrophone = await openMicrophone(SPEECH_RATE_HZ, (piece) => this.hear(piece));
    } catch (error) {
      this.player.close();
      throw error;
    }
    const address = new URL("/v1/realtime", location.href);
    address.protocol = address.protocol === "https:" ? "wss:" : "ws:";
    const protocols = ["realtime", ...(this.options.key ? [KEY_PROTOCOL + this.options.key] : [])];
    this.wire = new WebSocket(address, protocols);
    this.wire.onmessage = (event) => this.take(JSON.parse(event.data));
    this.wire.onclose = (event) => {
      if (!this.isStopped && !this.hasFailed) {
        this.show.error(this.isOpen
          ? `The conversation was ended by the server. ${event.reason}`
          : "The server refused the conversation. Check that it runs, and the API key.");
      }
      this.stop();
    };
    this.show.state("connecting …");
  }

  stop() {
    if (this.isStopped) return;
    this.isStopped = true;
    this.stopMicrophone?.();
    this.wire?.close();
    this.player?.close();
    this.show.state("");
    this.show.end();
  }

  send(type, values) {
    if (this.wire?.readyState === WebSocket.OPEN) this.wire.send(JSON.stringify({ type, ...values }));
  }

  hear(piece) {
    let peak = 0;
    for (const sample of piece) peak = Math.max(peak, Math.abs(sample));
    this.show.level(peak);
    if (this.isOpen) this.send("input_audio_buffer.append", { audio: toBase64(new Uint8Array(asPcm(piece).buffer)) });
  }

  take(event) {
    const act = {
      "session.created": () => {
        this.isOpen = true;
        this.send("session.update", { session: {
          turn_text: this.options.turnText, input_audio_transcription: {}, voice: this.options.voice,
        } });
        this.show.state("listening");
      },
      "input_audio_buffer.speech_started": () => { this.interrupt(); this.show.state("you speak"); },
      "input_audio_buffer.committed": () => { this.finished.push(event.item_id); this.show.you(event.item_id, "…"); },
      "conversation.item.input_audio_transcription.completed": () =>
        this.show.you(event.item_id, event.transcript || "(no words)"),
      "conversation.item.input_audio_transcription.failed": () => this.show.you(event.item_id, "(no words)"),
      "response.created": () => this.show.state("thinking"),
      "response.output_item.added": () => { this.answer = { item: event.item.id, text: "" }; },
      "response.audio_transcript.delta": () => {
        this.answer.text += event.delta;
        this.show.model(this.answer.item, this.answer.text, false);
      },
      "response.audio.delta": () => { this.player.play(fromBase64(event.delta)); this.show.state("speaking"); },
      "response.done": () => this.done(event.response),
      "conversation.item.retrieved": () =>
        this.show.model(event.item.id, event.item.content[0]?.transcript ?? "", true),
      error: () => {
        this.hasFailed = !this.isOpen;
        this.show.error(event.error.message);
      },
    }[event.type];
    act?.();
  }

  done(response) {
    if (response.status === "failed") this.show.error(response.status_details.error.message);
    if (this.answer) this.answer.isDone = true;
    if (!this.player.isPlaying) this.settle();
  }

  /** The answer was heard to its end. */
  settle() {
    if (this.isStopped) return;
    if (this.answer) this.finished.push(this.answer.item);
    this.answer = null;
    this.player.stop();
    if (this.options.alone) this.forget();
    this.show.state("listening");
  }

  /** The user speaks: be silent, and let the history end where they stopped listening. */
  interrupt() {
    if (!this.answer) return;
    const { item } = this.answer;
    const heardMs = Math.floor(this.player.heardMs);
    this.player.stop();
    this.answer = null;
    setTimeout(() => {  // behind the server's own end of the answer
      this.send("conversation.item.truncate", { item_id: item, content_index: 0, audio_end_ms: heardMs });
      this.send("conversation.item.retrieve", { item_id: item });
      this.finished.push(item);
      if (this.options.alone) this.forget();
    }, 0);
  }

  forget() {
    for (const item_id of this.finished.splice(0)) this.send("conversation.item.delete", { item_id });
  }
}
