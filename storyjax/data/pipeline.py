"""Source to batches with grain: shuffled and endless for training, once and in order for evaluation.

Story number t of the endless stream is a function of the seed and t alone: every epoch is shuffled anew, a process reads those
rows of each batch that its devices hold, and neither threads nor workers change the order. So the state of a stream is one number,
the stories seen, which resumes to the very next batch also on another number of processes, threads or workers.
"""

import weakref
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from storyjax.data.batch import BatchSpec
from storyjax.data.source import StorySource
from storyjax.data.tokenizer import tokenize
from storyjax.errors import StoryjaxError

if TYPE_CHECKING:
    import grain
    from transformers import CLIPTokenizer

Batch = dict[str, np.ndarray]


def story_tokens(source: StorySource, tokenizer: "CLIPTokenizer", max_length: int | None = None) -> np.ndarray:
    """The tokens of all sentences of `source`, (N, F, L) int32: computed once, so that no batch calls the tokenizer."""
    tokens = tokenize(tokenizer, source.all_sentences(), max_length)
    return tokens.reshape(len(source), source.frames, -1)


def make_batches(
    source: StorySource,
    spec: BatchSpec,
    batch_size: int,
    seed: int,
    *,
    tokenizer: "CLIPTokenizer | None" = None,
    max_length: int | None = None,
    tokens: np.ndarray | None = None,
    start: int = 0,
    shuffle: bool = True,
    threads: int = 4,
    workers: int = 0,
    rows: Sequence[int] | None = None,
    random_frames: bool = False,
) -> "Batches":
    """The endless stream of batches that training reads.

    `batch_size` counts the stories of all processes together; `rows`, in ascending order, are those of each batch that this
    process reads (`Placement.rows` of storyjax.parallel; default: all of them). `spec` with `text="tokens"` needs `tokenizer`
    (with `max_length`, default its own) or ready `tokens` (N, F, L). `start` is the number of stories already seen. `threads`
    decode in this process (0: none; enough for cached arrays); `workers` are processes (their start costs seconds; a script that
    uses them needs the `if __name__ == "__main__"` guard). `random_frames`: of frames with several pictures one is drawn anew in
    every epoch, as a function of the seed and the position in the stream; otherwise it is always the same one.
    """
    elements = _Elements(source, spec, _tokens_for(source, spec, tokenizer, max_length, tokens))
    if random_frames and (not source.has_strips or "images" not in spec.fields):
        raise StoryjaxError(
            f"random_frames needs images of frames with several pictures; {source!r} has one picture a frame, or the batch has "
            "none; leave random_frames out"
        )
    chosen = range(batch_size) if rows is None else tuple(rows)
    if batch_size < 1 or not chosen or not set(chosen) <= set(range(batch_size)):
        raise StoryjaxError(f"expected rows out of a batch of {batch_size} stories, got {list(chosen)}")
    return Batches(elements, batch_size, seed, start, shuffle, threads, workers, chosen, random_frames)


def iterate_once(
    source: StorySource,
    spec: BatchSpec,
    batch_size: int,
    *,
    tokenizer: "CLIPTokenizer | None" = None,
    max_length: int | None = None,
    tokens: np.ndarray | None = None,
    start: int = 0,
    pad: bool = False,
    threads: int = 4,
    process_index: int | None = None,
    process_count: int | None = None,
) -> Iterator[Batch]:
    """Every story from `start` on once, in order, tail included; arguments as in `make_batches`.

    The last batch is smaller, or, with `pad`, filled up by repeating the last story under index -1, so that every batch
    has one shape (one compilation) and every process gets the same number of batches.
    """
    elements = _Elements(source, spec, _tokens_for(source, spec, tokenizer, max_length, tokens))
    index, count = _process(process_index, process_count)
    local = _local_size(batch_size, count)
    if pad:
        elements.length = start + -(-(len(source) - start) // batch_size) * batch_size
    return _in_order(elements, range(start + index, len(elements), count), local, threads)


def _in_order(elements: "_Elements", positions: range, size: int, threads: int) -> Iterator[Batch]:
    import grain

    if not positions:
        return
    source: Any = elements  # a random-access source to grain at run time
    dataset = grain.MapDataset.source(source)[positions.start :: positions.step]
    batches = iter(dataset.to_iter_dataset(_reading(threads, size)).batch(size, drop_remainder=False))
    try:
        yield from batches
    finally:
        batches.close()


def _reading(threads: int, size: int) -> "grain.ReadOptions":
    """Threads, and room for two batches of finished stories (grain's default of 500 would be a gigabyte of pictures)."""
    import grain

    return grain.ReadOptions(num_threads=threads, prefetch_buffer_size=max(threads, 2 * size))


class Batches:
    """An endless iterator of batches with a state: `next(batches)`, `get_state()`, `set_state(state)`, `close()`.

    Also a context manager that closes it.
    `stories` is the number of stories of all processes that `__next__` has given so far.
    """

    def __init__(
        self,
        elements: "_Elements",
        batch_size: int,
        seed: int,
        start: int,
        shuffle: bool,
        threads: int,
        workers: int,
        rows: Sequence[int],
        random_frames: bool = False,
    ):
        self._elements, self._shuffle, self._threads, self._workers = elements, shuffle, threads, workers
        self._rows, self._random_frames = rows, random_frames
        self.batch_size, self.seed, self.stories = batch_size, seed, start
        self._running: list[
            Any
        ] = []  # the grain iterator; started by the first __next__, set_state before it costs nothing
        # Also at interpreter exit: grain's threads and workers stop quietly only while its modules are still there.
        weakref.finalize(self, _stop, self._running)

    def __iter__(self) -> "Batches":
        return self

    def __enter__(self) -> "Batches":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def __next__(self) -> Batch:
        if not self._running:
            self._running.append(self._start())
        batch = next(self._running[0])
        self.stories += self.batch_size
        return batch

    def get_state(self) -> dict[str, Any]:
        """Where the stream stands, as JSON values; the same in every process."""
        state = {"stories": self.stories, "seed": self.seed, "shuffle": self._shuffle, "length": len(self._elements)}
        return state | ({"random_frames": True} if self._random_frames else {})

    def set_state(self, state: dict[str, Any]) -> None:
        """Continue with the batch after the one that was given last before `get_state`.

        Errors: the state belongs to a stream of another seed, order or number of stories.
        """
        ours = self.get_state()
        if set(state) != set(ours):
            raise StoryjaxError(f"expected a data state with {', '.join(ours)}, got {state!r}")
        different = [
            f"{name} {state[name]!r}, here {ours[name]!r}"
            for name in ours
            if name != "stories" and state[name] != ours[name]
        ]
        if different:
            raise StoryjaxError(
                f"the saved data state belongs to another stream: {'; '.join(different)}; resume with the data and seed of "
                "that run, or start a new one"
            )
        self.close()
        self.stories = int(state["stories"])

    def close(self) -> None:
        """Stop threads and workers; the next `__next__` starts them again."""
        _stop(self._running)

    def _start(self) -> Iterator[Batch]:
        import grain

        dataset = grain.MapDataset.range(len(self._elements)).seed(self.seed)
        share: Any = _Share((dataset.shuffle() if self._shuffle else dataset).repeat(), self)
        local = len(self._rows)
        stream = grain.MapDataset.source(share).to_iter_dataset(_reading(self._threads, local))
        if self._workers:
            _mark_flags_parsed()
            # Workers come before the batching: elements are dealt out and collected in turn, which keeps their order.
            options = grain.MultiprocessingOptions(num_workers=self._workers, per_worker_buffer_size=2 * local)
            stream = stream.mp_prefetch(options)
        return iter(stream.batch(local, drop_remainder=True))


def _stop(running: list[Any]) -> None:
    while running:
        running.pop().close()


class _Share:
    """This process's rows of the batches to come, one after the other: a random-access data source to grain.

    order: endless, the position in the source of story number t of the stream.
    """

    def __init__(self, order: Any, batches: Batches):
        self._order, self._elements, self._start = order, batches._elements, batches.stories
        self._seed, self._random_frames = batches.seed, batches._random_frames
        self._batch_size, self._rows = batches.batch_size, tuple(batches._rows)

    def __len__(self) -> int:
        return (len(self._order) - self._start) // self._batch_size * len(self._rows)

    def __getitem__(self, position: int) -> dict[str, Any]:
        batch, row = divmod(int(position), len(self._rows))
        number = self._start + batch * self._batch_size + self._rows[row]
        rng = np.random.default_rng((abs(self._seed), number)) if self._random_frames else None
        return self._elements.row(int(self._order[number]), rng)

    def __repr__(self) -> str:
        return f"rows {self._rows} of batches of {self._batch_size}, {self._elements!r}"


class _Elements:
    """One story as the arrays of a batch row: the random-access data source that grain sees."""

    def __init__(self, source: StorySource, spec: BatchSpec, tokens: np.ndarray | None):
        spec.check(source)
        self._source, self._fields, self._tokens = source, spec.fields, tokens
        self.length = len(source)

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, position: int) -> dict[str, Any]:
        return self.row(int(position))

    def row(self, position: int, rng: np.random.Generator | None = None) -> dict[str, Any]:
        """The story at `position`, the last one under index -1 beyond it; `rng` draws pictures of strips."""
        index = min(position, len(self._source) - 1)
        row: dict[str, Any] = dict(self._source.arrays(index, self._fields, *([rng] if rng else [])))
        if self._tokens is not None:
            row["tokens"] = self._tokens[index]
        row["index"] = np.int64(index if index == position else -1)
        return row

    def __repr__(self) -> str:
        return f"stories of {self._source!r}"


def _tokens_for(
    source: StorySource,
    spec: BatchSpec,
    tokenizer: "CLIPTokenizer | None",
    max_length: int | None,
    tokens: np.ndarray | None,
) -> np.ndarray | None:
    if spec.text != "tokens":
        return None
    if tokens is None:
        if tokenizer is None:
            raise StoryjaxError(
                "a batch with tokens needs tokenizer= or tokens=, got neither; or choose BatchSpec(text=None)"
            )
        return story_tokens(source, tokenizer, max_length)
    if tokens.ndim != 3 or tokens.shape[:2] != (len(source), source.frames):
        raise StoryjaxError(f"expected tokens of shape ({len(source)}, {source.frames}, L), got {tokens.shape}")
    return np.asarray(tokens, np.int32)


def _process(index: int | None, count: int | None) -> tuple[int, int]:
    if index is None or count is None:
        import jax

        return jax.process_index(), jax.process_count()
    return index, count


def _local_size(batch_size: int, processes: int) -> int:
    if batch_size < 1 or batch_size % processes:
        raise StoryjaxError(f"expected a batch size that {processes} processes can share evenly, got {batch_size}")
    return batch_size // processes


def _mark_flags_parsed() -> None:
    """grain's workers read absl flags; a program that is not an absl app has never parsed them."""
    from absl import flags

    if not flags.FLAGS.is_parsed():
        flags.FLAGS.mark_as_parsed()
