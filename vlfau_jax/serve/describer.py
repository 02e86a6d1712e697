"""Answers concurrent requests by one model: a bounded queue, and one program call for many faces.

Threads decode pictures and find faces. The faces that wait when the program becomes free share its
next run, up to the model's batch size: nobody waits for others to come.
"""

from __future__ import annotations

import asyncio
import os
from collections import deque
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import numpy as np

from vlfau_jax.data.crop.rule import CropRule
from vlfau_jax.data.raw.decoding import decode_picture
from vlfau_jax.inference.explained import Explanation
from vlfau_jax.inference.exported_model import ExportedModel
from vlfau_jax.inference.faces import FoundFace, Limits
from vlfau_jax.inference.predict_options import Faces
from vlfau_jax.serve.answers import MOST_DESCRIBED, Result

T = TypeVar("T")
MOST_READERS = 4  # each may hold a decoded picture of `MOST_PIXELS`


class Busy(Exception):
    """As many requests are under way as are taken."""


class Describer:
    """Describes pictures as they come; one event loop's.

    Attributes:
        model: that describes.
        under_way: how many requests are being read, waiting or described.
        runs: how many faces each run of the program so far had.
    """

    def __init__(
        self,
        model: ExportedModel,
        finder: CropRule,
        faces: Faces,
        queue: int,
        limits: Limits | None = None,
    ) -> None:
        """Stores the arguments; `start` starts it.

        Args:
            model: that describes.
            finder: finds the faces, see `registry.finder_for`.
            faces: "all" of a picture, at most `MOST_DESCRIBED`, or the "largest" alone.
            queue: how many requests may be under way.
            limits: beyond which a face is doubtful; it is described all the same.
        """
        self.model = model
        self.under_way = 0
        self.runs: deque[int] = deque(maxlen=1000)
        self._finder, self._faces = finder, faces
        self._queue = queue
        self._limits = limits
        self._waiting: deque[tuple[np.ndarray, asyncio.Future[Explanation]]] = deque()
        self._arrived = asyncio.Event()

    async def __aenter__(self) -> Describer:
        readers = min(MOST_READERS, os.cpu_count() or 1)
        self._readers = ThreadPoolExecutor(readers, "reader")
        self._program = ThreadPoolExecutor(1, "program")
        self._runner = asyncio.create_task(self._run())
        return self

    async def __aexit__(self, *error: object) -> None:
        self._runner.cancel()
        for pool in (self._readers, self._program):
            pool.shutdown(wait=False, cancel_futures=True)

    async def describe(
        self, read: Callable[[], Awaitable[bytes]], made: Callable[[Result], T]
    ) -> T:
        """What `made` makes, in a thread, of the picture that `read` gives.

        Where the caller gives up, the work that was begun goes on and keeps its place in the queue:
        what is under way is bounded, whoever waits for it.

        Raises:
            Busy: the queue is full; nothing was read.
            Unreadable: what was read is no picture.
        """
        if self.under_way >= self._queue:
            raise Busy
        self.under_way += 1
        try:
            work = asyncio.create_task(self._describe(await read(), made))
        except BaseException:
            self.under_way -= 1
            raise
        work.add_done_callback(self._left)
        return await asyncio.shield(work)

    def _left(self, work: asyncio.Task[object]) -> None:
        self.under_way -= 1
        if not work.cancelled():
            work.exception()  # of work that nobody waits for any more: it is not to be reported

    async def _describe(self, data: bytes, made: Callable[[Result], T]) -> T:
        loop = asyncio.get_running_loop()
        found = await loop.run_in_executor(self._readers, self._look, data)
        crops = [face.crop for face in found if face.crop is not None]
        explained = await asyncio.gather(*map(self._explained, crops))
        return await loop.run_in_executor(self._readers, made, Result(found, explained))

    def _look(self, data: bytes) -> list[FoundFace]:
        return self.model.look_all(
            decode_picture(data),
            limits=self._limits,
            finder=self._finder,
            faces=self._faces,
            most=MOST_DESCRIBED,
        )

    async def _explained(self, crop: np.ndarray) -> Explanation:
        future = asyncio.get_running_loop().create_future()
        self._waiting.append((crop, future))
        self._arrived.set()
        return await future

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await self._arrived.wait()
            count = min(len(self._waiting), self.model.batch_size)
            group = [self._waiting.popleft() for _ in range(count)]
            if not self._waiting:
                self._arrived.clear()
            crops = np.stack([crop for crop, _ in group])
            try:
                found = await loop.run_in_executor(self._program, self.model.explain, crops)
            except Exception as error:
                for _, future in group:
                    if not future.done():
                        future.set_exception(error)
                continue
            self.runs.append(count)
            for (_, future), explained in zip(group, found, strict=True):
                if not future.done():
                    future.set_result(explained)
