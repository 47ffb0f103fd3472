"""A request that comes again under its key."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine

import pytest

from homeostat.errors import InvalidRequest, Unavailable
from serving.batching import Reply
from serving.repeats import MOST_BYTES, SECONDS, Repeats

ME = ("ann", "digits", b"key")


class Work:
    """Answers with its number, once it may, or fails."""

    def __init__(self, size: int = 1) -> None:
        self.done, self.size = 0, size
        self.may = asyncio.Event()
        self.may.set()
        self.failing = False

    async def __call__(self) -> Reply:
        await self.may.wait()
        self.done += 1
        if self.failing:
            raise Unavailable("away")
        return Reply(b"%d" % self.done * self.size, 1, 1)


def run(story: Callable[[], Coroutine[None, None, None]]) -> None:
    asyncio.run(story())


def test_the_same_key_and_body_get_the_first_answer() -> None:
    async def story() -> None:
        repeats, work = Repeats(), Work()
        first = await repeats.once(ME, b"rows", work)
        assert await repeats.once(ME, b"rows", work) is first
        for other in (("lee", *ME[1:]), (ME[0], "letters", ME[2]), (*ME[:2], b"other")):
            assert (await repeats.once(other, b"rows", work)).body != first.body

    run(story)


def test_a_repeat_that_overtakes_its_first_waits_for_it_even_if_that_one_leaves() -> None:
    async def story() -> None:
        repeats, work = Repeats(), Work()
        work.may.clear()
        first, again = (asyncio.create_task(repeats.once(ME, b"rows", work)) for _ in range(2))
        await asyncio.sleep(0)
        first.cancel()
        await asyncio.sleep(0)
        work.may.set()
        assert (await again).body == b"1"
        assert work.done == 1

    run(story)


def test_what_failed_is_done_anew() -> None:
    async def story() -> None:
        repeats, work = Repeats(), Work()
        work.failing = True
        with pytest.raises(Unavailable):
            await repeats.once(ME, b"rows", work)
        work.failing = False
        assert (await repeats.once(ME, b"rows", work)).body == b"2"

    run(story)


def test_a_key_with_another_body_and_one_that_is_none_are_refused() -> None:
    async def story() -> None:
        repeats, work = Repeats(), Work()
        await repeats.once(ME, b"rows", work)
        with pytest.raises(InvalidRequest, match="another body"):
            await repeats.once(ME, b"others", work)
        for key in (b"", b"k" * 201):
            with pytest.raises(InvalidRequest, match=r"has \d+ bytes"):
                await repeats.once((*ME[:2], key), b"rows", work)

    run(story)


def test_answers_are_forgotten_by_age_and_by_size() -> None:
    async def story() -> None:
        now = [0.0]
        repeats, work = Repeats(lambda: now[0]), Work(size=MOST_BYTES)
        await repeats.once(ME, b"rows", work)
        now[0] = SECONDS + 1
        assert (await repeats.once(ME, b"rows", work)).body[:1] == b"2"
        await repeats.once((*ME[:2], b"more"), b"rows", work)
        assert (await repeats.once((*ME[:2], b"last"), b"rows", work)).body[:1] == b"4"
        assert (await repeats.once(ME, b"rows", work)).body[:1] == b"5"  # the oldest went

    run(story)
