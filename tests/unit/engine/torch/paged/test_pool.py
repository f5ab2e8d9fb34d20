"""Pages of KV: shared while they are only read, copied when one writes, given back."""

import gc

import torch

from paceline.engine.pages import PagedCache
from paceline.engine.torch.paged.pool import KVPool, PagedLayer


def pool_with_layer(pages: int) -> tuple[KVPool, PagedLayer]:
    pool = KVPool(pages, torch.device("cpu"))
    return pool, pool.layer(0, torch.zeros(2, 1, 4), torch.zeros(2, 1, 3))


def test_full_pages_of_a_copy_are_shared_until_one_writes() -> None:
    pool, (keys, values) = pool_with_layer(8)
    first = PagedCache(pool)
    first.make_room(0, 1100)
    first.extend(1100)
    for number, page in enumerate(first.pages):
        keys[page], values[page] = number + 1, -number - 1
    second = first.copy(600)
    assert (second.length, second.pages[0]) == (600, first.pages[0])
    assert second.pages[1] != first.pages[1]
    assert (keys[second.pages[1]] == 2).all()
    second.truncate(300)
    second.make_room(300, 301)
    assert second.pages[0] != first.pages[0]
    assert (values[second.pages[0]] == -1).all()
    before = list(first.pages)
    first.make_room(0, 1100)
    assert first.pages == before


def test_pages_are_given_back() -> None:
    pool, _ = pool_with_layer(4)
    first = PagedCache(pool)
    first.make_room(0, 1024)
    second = first.copy(1024)
    del first
    gc.collect()
    assert pool.pages_used == 2
    del second
    gc.collect()
    assert pool.pages_used == 0


def test_there_are_more_where_they_run_out() -> None:
    pool, (keys, _) = pool_with_layer(1)
    caches = [PagedCache(pool) for _ in range(5)]
    caches[0].make_room(0, 1)
    keys[caches[0].pages[0]] = 7
    for cache in caches[1:]:
        cache.make_room(0, 1)
    assert pool.moved == 1
    assert len({cache.pages[0] for cache in caches}) == 5
    grown, _ = pool.layer(0, keys, keys)
    assert (grown[caches[0].pages[0]] == 7).all()
    assert pool.token_bytes == 2 * (4 + 3) * 4
