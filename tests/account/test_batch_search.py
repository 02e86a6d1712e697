"""The search for the largest batch, with a compiler that only adds."""

import itertools

from hypothesis import given
from hypothesis import strategies as st

from vlfau_jax.account.batch_search import AT_MOST, LARGEST, Sample, largest_that_fits


def searched(needed, memory, first=8, state=0.0):
    """The search over a program that needs `needed(images)`."""

    def measure(images):
        assert images not in tried, "the same batch is compiled twice"
        tried.append(images)
        return Sample(images, needed(images), needed(images) <= memory)

    tried = []
    found, samples = largest_that_fits(measure, memory, first=first, state=state)
    assert [one.images for one in samples] == tried and len(tried) <= AT_MOST
    return found, tried


def best(needed, memory):
    """The largest of 1, 2, 4, 8, 16, 24, ... that fits; 0 if none does."""
    return max((b for b in (1, 2, 4, *range(8, 4097, 8)) if needed(b) <= memory), default=0)


@given(
    state=st.floats(0, 20),
    image=st.floats(0.02, 4),
    memory=st.floats(1, 100),
    first=st.sampled_from([1, 4, 8, 64]),
)
def test_a_straight_line_is_found_in_few_compilations(state, image, memory, first):
    def needed(images):
        return state + image * images

    found, tried = searched(needed, memory, first, state)
    assert found == best(needed, memory)
    assert len(tried) <= 4  # rounding may put the crossing on the other side of a batch


@given(slopes=st.lists(st.floats(0.01, 3), min_size=1, max_size=8), memory=st.floats(4, 60))
def test_a_bent_line_gives_the_last_batch_that_fits(slopes, memory):
    # Every 16 images the slope changes; the last one stays.
    each = (slopes[min(k // 16, len(slopes) - 1)] for k in range(LARGEST))
    total = list(itertools.accumulate(each, initial=1.0))
    needed = total.__getitem__
    found, tried = searched(needed, memory)
    assert not found or needed(found) <= memory
    if len(tried) < AT_MOST:
        assert found == best(needed, memory)


def test_the_next_larger_batch_is_confirmed_not_to_fit():
    found, tried = searched(lambda images: 2 + 0.2 * images, 16.0)
    assert found == 64 and 72 in tried  # 2 + 0.2 * 70 = 16


def test_nothing_fits():
    found, tried = searched(lambda images: 50 + images, 16.0)
    assert found == 0 and tried[-1] == 1 and len(tried) <= 4


def test_below_the_step_powers_of_two_are_tried():
    assert searched(lambda images: 3.0 * images, 16.0)[0] == 4


def test_without_a_limit_it_ends_at_the_largest():
    assert searched(lambda images: 1.0, 16.0)[0] == 4096
