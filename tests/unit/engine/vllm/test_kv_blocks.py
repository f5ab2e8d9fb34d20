"""Pages of sessions in vLLM's pool, on a pool that counts as vLLM's does."""

import gc
from collections.abc import Sequence
from dataclasses import dataclass

import pytest

from paceline.engine.vllm.kv_blocks import BlockCache, KVBlocks

PAGE = 4


@dataclass(eq=False)
class CountedBlock:
    block_id: int
    ref_cnt: int = 0


class CountingPool:
    def __init__(self, count: int) -> None:
        self.blocks = [CountedBlock(number) for number in range(count)]

    def get_new_blocks(self, num_blocks: int) -> list[CountedBlock]:
        free = [block for block in self.blocks if not block.ref_cnt]
        if num_blocks > len(free):
            raise ValueError("too few")
        self.touch(free[:num_blocks])
        return free[:num_blocks]

    def touch(self, blocks: Sequence[CountedBlock]) -> None:
        for block in blocks:
            block.ref_cnt += 1

    def free_blocks(self, ordered_blocks: Sequence[CountedBlock]) -> None:
        for block in ordered_blocks:
            assert block.ref_cnt > 0
            block.ref_cnt -= 1

    def get_num_free_blocks(self) -> int:
        return sum(not block.ref_cnt for block in self.blocks)


def run(blocks: KVBlocks, cache: BlockCache, position: int, count: int) -> list[tuple[int, int]]:
    """As the runner does: grow, tell the workers, compute. Returns what is copied before."""
    blocks.reclaim()
    cache.truncate(position)
    cache.grow(position + count)
    cache.names[:] = cache.names or [blocks.new_name()]
    _, copies = blocks.changes()
    cache.length = position + count
    return copies


@pytest.mark.parametrize("groups", [1, 2])
def test_pages_are_taken_as_tokens_come_and_are_free_once_the_cache_is_gone(groups: int) -> None:
    blocks = KVBlocks(CountingPool(10 * groups), PAGE, groups)
    cache = BlockCache(blocks)
    run(blocks, cache, 0, 5)
    assert len(cache.pages) == 2
    assert blocks.free_pages == 8
    run(blocks, cache, 5, 3)
    assert blocks.free_pages == 8
    run(blocks, cache, 8, 1)
    assert blocks.free_pages == 7
    [name] = cache.names
    del cache
    gc.collect()
    blocks.reclaim()
    assert blocks.free_pages == 10
    assert blocks.changes() == ({name}, [])


def test_rejected_tokens_leave_no_page_behind() -> None:
    blocks = KVBlocks(CountingPool(10), PAGE)
    cache = BlockCache(blocks)
    run(blocks, cache, 0, 11)
    assert (blocks.free_pages, cache.replaced) == (7, False)
    cache.truncate(4)
    assert (blocks.free_pages, cache.replaced, cache.length) == (9, True, 4)


def test_a_copy_shares_whole_pages_and_has_the_last_one_copied() -> None:
    blocks = KVBlocks(CountingPool(10), PAGE)
    cache = BlockCache(blocks)
    run(blocks, cache, 0, 10)
    copied = cache.copy(7)
    assert copied.length == 7
    assert copied.pages[0] is cache.pages[0]
    [(old, new)] = blocks.changes()[1]
    assert old == cache.pages[1][0].block_id
    assert new == copied.pages[1][0].block_id
    assert blocks.free_pages == 6


def test_where_no_page_is_free_a_copy_has_whole_pages_only() -> None:
    blocks = KVBlocks(CountingPool(3), PAGE)
    cache = BlockCache(blocks)
    run(blocks, cache, 0, 10)
    copied = cache.copy(7)
    assert (copied.length, len(copied.pages)) == (4, 1)


def test_who_writes_into_a_shared_page_gets_one_of_its_own() -> None:
    blocks = KVBlocks(CountingPool(10), PAGE)
    cache = BlockCache(blocks)
    run(blocks, cache, 0, 8)
    copied = cache.copy(8)
    shared = copied.pages[1]
    assert cache.pages[1] is shared
    [(old, new)] = run(blocks, cache, 5, 2)
    assert copied.pages[1] is shared
    assert old == shared[0].block_id
    assert new == cache.pages[1][0].block_id
    assert cache.replaced
    assert shared[0].ref_cnt == 1


def test_what_is_to_be_copied_is_held_until_it_is() -> None:
    blocks = KVBlocks(CountingPool(4), PAGE)
    cache = BlockCache(blocks)
    run(blocks, cache, 0, 3)
    copied = cache.copy(3)
    del cache
    gc.collect()
    blocks.reclaim()
    assert blocks.free_pages == 2  # the original is still to be read
    blocks.changes()
    assert blocks.free_pages == 3
    assert copied.length == 3


def test_a_copy_of_what_is_not_copied_yet_is_filled_from_where_that_will_be() -> None:
    """All blocks are copied at the same time: one that is filled then has nothing to give."""
    blocks = KVBlocks(CountingPool(10), PAGE)
    first = BlockCache(blocks)
    run(blocks, first, 0, 6)
    second = first.copy(6)
    third = second.copy(5)
    source, its, other = (cache.pages[1][0].block_id for cache in (first, second, third))
    assert blocks.changes()[1] == [(source, its), (source, other)]


def test_a_block_that_was_given_up_before_it_was_filled_is_filled_from_one_place_alone() -> None:
    blocks = KVBlocks(CountingPool(10), PAGE)
    first, other = BlockCache(blocks), BlockCache(blocks)
    run(blocks, first, 0, 6)
    run(blocks, other, 0, 6)
    dropped = first.copy(6)
    given_up = dropped.pages[1][0].block_id
    del dropped
    gc.collect()
    again = other.copy(6)
    assert again.pages[1][0].block_id == given_up
    assert blocks.changes()[1] == [(other.pages[1][0].block_id, given_up)]
