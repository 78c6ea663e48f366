"""The engine: prompts in, streamed deltas out. Each step schedules, runs the model, postprocesses and collects.

It lasts: sequences come and go at any step (continuous batching), and what was read and heard is kept for those that
come later. Every sequence's tokens are those that it would get alone; what runs beside it changes nothing but the time.

All methods may be called from several threads. One step runs at a time, under a lock; a thread that wants the next
delta of its own either finds it waiting or makes the next step, which serves everybody.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator
from collections.abc import Sequence as Rows
from dataclasses import dataclass
from itertools import count, islice
from threading import Lock
from typing import Literal

import torch
from torch import Tensor

from audioflamingo.audio.windows import WINDOW_SAMPLES
from audioflamingo.engine.answer import Answer
from audioflamingo.engine.blocks import BlockPool
from audioflamingo.engine.memory import MemoryExhaustedError
from audioflamingo.engine.runner import Runner
from audioflamingo.engine.sampling import OverflowedError, Sampler, begin_choice, check_sampling
from audioflamingo.engine.scheduler import Chunk, Limits, Plan, Scheduler
from audioflamingo.engine.sequence import Sequence
from audioflamingo.engine.sounds import pieces_of, pieces_of_sound
from audioflamingo.errors import FlamingoError
from audioflamingo.model.flamingo import Flamingo
from audioflamingo.model.lora import SwitchedAdapter
from audioflamingo.tokenizer import Tokenizer
from audioflamingo.types import Audio, Delta, Prompt, Sampling

Inbox = deque[Delta]
Errors = Literal["raise", "return"]


@dataclass(frozen=True)
class Counts:
    """What an engine has done with its present weights, and what it holds.

    Attributes:
        num_read_tokens: tokens of prompts that were read.
        num_reused_tokens: tokens that were found in the cache instead.
        num_encoded_windows: windows of sound that the encoder ran.
        num_preempted: how often a sequence gave up its share of a full cache.
        num_held_blocks: blocks of the cache that running sequences hold.
        num_kept_blocks: blocks that nobody holds and whose content may be found again.
        num_cache_bytes: size of the cache.
    """

    num_read_tokens: int
    num_reused_tokens: int
    num_encoded_windows: int
    num_preempted: int
    num_held_blocks: int
    num_kept_blocks: int
    num_cache_bytes: int


@dataclass(frozen=True)
class _Task:
    """What belongs to a sequence beside its place in the schedule: its random stream, its text, who waits for it."""

    sampler: Sampler
    answer: Answer
    inbox: Inbox


class Engine:
    """Generates with one model on one device."""

    def __init__(self, model: Flamingo, tokenizer: Tokenizer, limits: Limits | None = None) -> None:
        self.model = model
        self.tokenizer = tokenizer
        self.limits = limits or Limits.usual(model.device.type)
        self.adapter: SwitchedAdapter | None = None
        """What `Sampling.use_adapter` switches on; None while the model has none."""
        self._runner: Runner | None = None  # and its cache: made when the first sequence comes
        self._scheduler = Scheduler(self.limits, BlockPool(1))
        self._tasks: dict[Sequence, _Task] = {}
        self._cancelled: deque[Sequence] = deque()
        self._inbox: Inbox = deque()  # of sequences that brought none
        self._numbers = count()
        self._lock = Lock()

    def generate(
        self, prompts: Rows[Prompt], samplings: Rows[Sampling], *, errors: Errors = "raise"
    ) -> Generator[Delta, None, None]:
        """Answer prompts, together and with whatever else runs.

        Args:
            prompts: each at least one token, within the decoder's positions; `audioflamingo.prompt.build` makes them.
            samplings: one a prompt.
            errors: "raise" ends all with the first error of one; with "return" that one's last delta carries it, and
                the others go on.

        Returns:
            Deltas as they come, those of different prompts mixed, those of one in order; `Delta.index` tells them
            apart. Closing the generator cancels those that are not complete and frees their share of the cache.

        Raises:
            OptionError: a sampling option is out of its range; before any work.
        """
        requests = list(zip(prompts, map(check_sampling, samplings), strict=True))
        return self._deltas(requests, errors)

    def add(
        self, prompt: Prompt, sampling: Sampling, *, index: int | None = None, inbox: Inbox | None = None
    ) -> Sequence:
        """Let a prompt wait for its turn.

        Args:
            prompt: see `generate`.
            sampling: how its tokens are chosen.
            index: what its deltas carry; by default a number that no other sequence has.
            inbox: where its deltas go; without one, `step` returns them.

        Raises:
            OptionError: a sampling option is out of its range.
            PromptError: sounds and placeholders do not agree.
        """
        config = self.model.config
        pieces = pieces_of(prompt, config.audio_token_id, are_numbered=config.time_rotary is not None)
        if self._scheduler.running:  # others' time is not spent on naming sounds
            for piece in pieces:
                piece.sound_keys.take()
        number = next(self._numbers) if index is None else index
        sequence = Sequence(number, prompt, check_sampling(sampling), config.decoder.max_positions, pieces)
        sampler = Sampler(sampling, prompt.ids, config.decoder.vocab_size, self.model.device)
        answer = Answer(self.tokenizer, sequence)
        with self._lock:
            runner = self._ready_runner()
            if self.limits.encodes_aside and self._scheduler.running:
                self._listen_aside(runner, sequence)
            self._tasks[sequence] = _Task(sampler, answer, self._inbox if inbox is None else inbox)
            self._scheduler.add(sequence)
        self._sweep()
        return sequence

    def step(self) -> list[Delta]:
        """Read what there is to read and write one token of every answer; returns what came for no other inbox."""
        with self._lock:
            self._step()
            deltas = list(self._inbox)
            self._inbox.clear()
        self._sweep()
        return deltas

    def cancel(self, sequence: Sequence) -> None:
        """Stop work on a sequence and free its share of the cache, now or at the end of the running step."""
        if not sequence.is_finished:
            sequence.is_cancelled = True
            self._cancelled.append(sequence)
            self._sweep()

    @property
    def has_work(self) -> bool:
        """Whether any sequence waits or runs."""
        return bool(self._tasks)

    @property
    def counts(self) -> Counts:
        """What was done so far, and what is held now."""
        scheduler, runner = self._scheduler, self._runner
        return Counts(
            num_read_tokens=scheduler.num_read,
            num_reused_tokens=scheduler.num_reused,
            num_encoded_windows=runner.embeddings.num_encoded if runner else 0,
            num_preempted=scheduler.num_preempted,
            num_held_blocks=scheduler.pool.num_held,
            num_kept_blocks=scheduler.pool.num_kept,
            num_cache_bytes=runner.cache.num_bytes if runner else 0,
        )

    def listen(self, audio: Audio, *, is_complete: bool = True) -> int:
        """Encode a sound ahead of time, so that a prompt with it finds its embeddings ready.

        Args:
            audio: the sound so far.
            is_complete: whether no more of it will come; otherwise only its full windows are encoded.

        Returns:
            How many windows were encoded, and not known before.
        """
        pieces = pieces_of_sound(audio, are_numbered=self.model.config.time_rotary is not None)
        with self._lock, torch.inference_mode():
            embeddings = self._ready_runner().embeddings
            num_before = embeddings.num_encoded
            embeddings.of(piece for piece in pieces if is_complete or len(piece.samples) == WINDOW_SAMPLES)
            num_new = embeddings.num_encoded - num_before
        self._sweep()
        return num_new

    def _deltas(self, requests: list[tuple[Prompt, Sampling]], errors: Errors) -> Generator[Delta, None, None]:
        inbox: Inbox = deque()
        own: list[Sequence] = []
        try:
            for index, (prompt, sampling) in enumerate(requests):
                try:
                    own.append(self.add(prompt, sampling, index=index, inbox=inbox))
                except FlamingoError as error:
                    inbox.append(Delta(index, "", (), "error", error=error))
            while inbox or not all(sequence.is_finished for sequence in own):
                if not inbox:
                    self._step_for(inbox)
                while inbox:
                    delta = inbox.popleft()
                    if delta.error is not None and errors == "raise":
                        raise delta.error
                    yield delta
        finally:
            for sequence in own:
                self.cancel(sequence)

    def _step_for(self, inbox: Inbox) -> None:
        """Make a step, unless another thread's has filled the inbox while this one waited for its turn."""
        with self._lock:
            if not inbox:
                self._step()
        self._sweep()

    @torch.inference_mode()  # here and not around the generator, whose caller it would leak to
    def _step(self) -> None:
        """Schedule, run, postprocess, collect. The lock is held."""
        if not self._tasks:
            return
        runner = self._ready_runner()
        self._notice_what_was_heard(runner)
        self._listen_first(runner)
        plan = self._scheduler.plan()
        for sequence, error in plan.failed:
            self._fail(sequence, error)
        self._make_room(runner)
        self._run(plan.reading, runner.read)
        self._write(plan, runner)

    def _notice_what_was_heard(self, runner: Runner) -> None:
        """Let those be read whose sounds are encoded; all, if nothing else is to do: they are next on the device."""
        for sequence in self._scheduler.waiting:
            if sequence.is_listening:
                is_done = not self._scheduler.running or runner.embeddings.are_there(sequence.pieces)
                sequence.is_listening = not is_done

    def _listen_first(self, runner: Runner) -> None:
        """Where none runs, let the device hear what is surely new to the first, while sounds and blocks are named."""
        if not self._scheduler.running and self._scheduler.waiting:
            first = self._scheduler.waiting[0].pieces
            beside = (piece for one in islice(self._scheduler.waiting, 1, None) for piece in one.pieces)
            runner.embeddings.begin_new([*first, *islice(beside, max(0, self.limits.encoder_windows - len(first)))])

    def _write(self, plan: Plan, runner: Runner) -> None:
        """One more token of every answer; where all are the likeliest ones, a GPU may begin the step after it."""
        writing = [chunk for chunk in plan.writing if not chunk.sequence.is_finished]
        if writing and self._are_plain_greedy(writing) and runner.can_write_ahead(writing):
            goes_on = self._scheduler.can_go_on(plan)
            self._run(writing, lambda some: runner.write_greedily(some, goes_on=goes_on and len(some) == len(writing)))
        else:
            self._run(writing, runner.write)

    @torch.inference_mode()
    def _listen_aside(self, runner: Runner, sequence: Sequence) -> None:
        runner.embeddings.begin(sequence.pieces)
        sequence.is_listening = not runner.embeddings.are_there(sequence.pieces)

    def _are_plain_greedy(self, chunks: list[Chunk]) -> bool:
        return all(self._tasks[chunk.sequence].sampler.is_plain_greedy for chunk in chunks)

    def _run(self, chunks: list[Chunk], run: Callable[[list[Chunk]], Tensor | list[int]]) -> None:
        """Run chunks and take the tokens that follow; where that fails, halves of them, and at last one fails alone.

        `run` gives (B, V) logits after those chunks that are their sequence's last, or the tokens themselves. What
        surfaces of anything else finds all sequences as they were before, and they can be run again.
        """
        chunks = [chunk for chunk in chunks if not chunk.sequence.is_finished]
        if not chunks:
            return
        try:
            found = run(chunks)
        except FlamingoError as error:  # memory for all of them, or a sound of one that is none
            if len(chunks) == 1:
                self._fail(chunks[0].sequence, error)
                return
            middle = len(chunks) // 2
            self._run(chunks[:middle], run)
            self._run(chunks[middle:], run)
            return
        ended = [chunk.sequence for chunk in chunks if chunk.is_last]
        tokens: Rows[int | FlamingoError]
        if isinstance(found, Tensor):
            wait = begin_choice(found, [self._tasks[sequence].sampler for sequence in ended])
            self._prepare_next()
            tokens = wait()
        else:
            tokens = found
        for chunk in chunks:
            self._scheduler.computed(chunk)
        self._accept(ended, tokens)

    def _prepare_next(self) -> None:
        """While a GPU is at work, give it the sounds that may come next, and name them and their blocks."""
        coming = self._scheduler.may_come()
        if not coming:
            return
        if self.model.device.type == "cuda":  # elsewhere nothing works by itself, and tokens would wait
            pieces = (piece for sequence in coming for piece in sequence.pieces)
            self._ready_runner().embeddings.begin_new(islice(pieces, self.limits.encoder_windows))
        self._scheduler.name(coming)

    def _accept(self, sequences: list[Sequence], tokens: Rows[int | FlamingoError]) -> None:
        """Add a token to each answer and hand on what that adds to its text."""
        for sequence, token in zip(sequences, tokens, strict=True):
            if sequence.is_cancelled:
                continue
            if isinstance(token, OverflowedError):
                self._erase(sequence)
            if isinstance(token, FlamingoError):
                self._fail(sequence, token)
            else:
                self._deliver(sequence, self._tasks[sequence].answer.accept(token))

    def _erase(self, sequence: Sequence) -> None:
        """Let nobody meet what a sequence stored: masked by another, a NaN is still one in a weighted sum."""
        self._ready_runner().cache.erase(self._scheduler.pool.spoil(sequence.blocks))

    def _fail(self, sequence: Sequence, error: FlamingoError) -> None:
        if not sequence.is_finished:
            self._deliver(sequence, sequence.fail(error))

    def _deliver(self, sequence: Sequence, delta: Delta) -> None:
        self._tasks[sequence].inbox.append(delta)
        if sequence.is_finished:
            self._drop(sequence)

    def _drop(self, sequence: Sequence) -> None:
        self._scheduler.remove(sequence)
        del self._tasks[sequence]

    def _make_room(self, runner: Runner) -> None:
        """Enlarge the cache to what the schedule uses, or fail those for whom there is no memory."""
        pool, num_blocks = self._scheduler.pool, runner.cache.num_blocks
        if pool.num_blocks <= num_blocks:
            return
        try:
            runner.grow(pool.num_blocks)
        except MemoryExhaustedError as error:
            for sequence in [one for one in self._scheduler.running if max(one.blocks) >= num_blocks]:
                self._fail(sequence, error)
                if sequence in self._tasks:  # cancelled while this step ran
                    self._drop(sequence)
            pool.shrink(num_blocks)

    def _sweep(self) -> None:
        """Drop the cancelled sequences, unless another thread is at work, whose end does it.

        It never waits for the lock: a forgotten generator may be closed by the collector in the middle of a step. So
        whoever has held the lock calls it afterwards.
        """
        while self._cancelled and self._lock.acquire(blocking=False):
            try:
                while self._cancelled:
                    sequence = self._cancelled.popleft()
                    if sequence in self._tasks:
                        self._drop(sequence)
            finally:
                self._lock.release()

    def _ready_runner(self) -> Runner:
        """The runner; a new one, its cache empty, where there is none or the weights are no longer the same."""
        if self._runner is None or (not self._tasks and not self._runner.is_current):
            self._runner = None  # first, so that there is never room for two
            self._runner = Runner(self.model, self.limits)
            pool = BlockPool(
                self._runner.cache.num_blocks,
                most=self._runner.most_blocks,
                in_one_piece=self.model.device.type == "cpu",
            )
            self._scheduler = Scheduler(self.limits.on(self.model.device.type), pool)
        if self._runner.adapter is not self.adapter:
            if self._runner.adapter is not None:
                self._scheduler.pool.forget()  # what was read with the other one
            self._runner.adapter = self.adapter
        return self._runner
