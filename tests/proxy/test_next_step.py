"""What is done after a try: the answer is handed over, or the call is made again."""

from __future__ import annotations

from typing import NamedTuple

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from broker.proxy.retry import ATTEMPTS, FIRST, PATIENCE_S, Again, Attempt, HandOver, next_step


class Answer(NamedTuple):
    """An answer, as far as it matters here."""

    status: int
    asked: float | None = None
    bad_key: bool = False


LAST = Attempt(number=ATTEMPTS)
WITH_PREVIOUS_KEY = Attempt(number=2, fall_back=True)
BUSY = Answer(503)
LIMITED = Answer(429, asked=2.0)
LONG_LIMITED = Answer(429, asked=PATIENCE_S + 0.1)
BAD_KEY = Answer(401, bad_key=True)

answers = st.none() | st.builds(
    Answer, st.sampled_from([200, 401, 404, 429, 500, 502, 503, 504]), st.none() | st.floats(0, 20), st.booleans()
)


def never() -> bool:
    raise AssertionError("to look at every header costs")


@pytest.mark.parametrize("attempt", [FIRST, Attempt(2), LAST, WITH_PREVIOUS_KEY])
@pytest.mark.parametrize("status", [200, 304, 400, 404, 500, 501])
def test_what_is_not_about_now_is_handed_over_without_a_look_at_the_call(status: int, attempt: Attempt) -> None:
    assert next_step(Answer(status), attempt, never, fallback=True) == HandOver()


@pytest.mark.parametrize("answer", [None, BUSY, LIMITED])
@pytest.mark.parametrize(("attempt", "repeatable"), [(LAST, True), (FIRST, False), (WITH_PREVIOUS_KEY, False)])
def test_what_may_not_be_repeated_or_was_tried_enough_is_handed_over(
    answer: Answer | None, attempt: Attempt, repeatable: bool
) -> None:
    assert next_step(answer, attempt, lambda: repeatable, fallback=True) == HandOver()


@pytest.mark.parametrize(("answer", "least"), [(None, 0.0), (BUSY, 0.0), (LIMITED, 2.0)])
def test_what_upstream_could_not_do_now_is_asked_again_when_it_says_so(answer: Answer | None, least: float) -> None:
    step = next_step(answer, FIRST, lambda: True, fallback=False)
    assert isinstance(step, Again)
    assert least <= step.wait <= least + 5
    assert not step.fall_back


@pytest.mark.parametrize("attempt", [FIRST, Attempt(2, patience=0.0)])
def test_a_wait_that_is_too_long_for_the_job_is_handed_over(attempt: Attempt) -> None:
    assert next_step(LONG_LIMITED, attempt, lambda: True, fallback=False) == HandOver()


def test_a_refused_key_is_replaced_by_the_previous_one_at_once_whatever_the_call() -> None:
    assert next_step(BAD_KEY, FIRST, never, fallback=True) == Again(0.0, fall_back=True)
    assert next_step(BAD_KEY, FIRST, never, fallback=False) == HandOver()
    assert next_step(BAD_KEY, LAST, never, fallback=True) == HandOver()


@pytest.mark.parametrize("answer", [None, BUSY, LIMITED])
def test_a_call_that_fell_back_to_the_previous_key_is_made_again_with_it(answer: Answer | None) -> None:
    """The present one was refused a moment before."""
    step = next_step(answer, WITH_PREVIOUS_KEY, lambda: True, fallback=False)
    assert isinstance(step, Again)
    assert step.fall_back


@example(came=[Answer(429, asked=8.0)] * ATTEMPTS, repeatable=True, fallback=False)
@given(st.lists(answers, min_size=ATTEMPTS, max_size=ATTEMPTS), st.booleans(), st.booleans())
def test_tries_are_few_and_waits_together_are_no_longer_than_a_job_is_held(
    came: list[Answer | None], repeatable: bool, fallback: bool
) -> None:
    attempt, waited = FIRST, 0.0
    for number, answer in enumerate(came, 1):
        assert attempt.number == number
        step = next_step(answer, attempt, lambda: repeatable, fallback=fallback)
        if isinstance(step, HandOver):
            break
        assert repeatable or (fallback and answer is not None and answer.bad_key)
        waited += step.wait
        attempt = attempt.after(step)
    else:
        pytest.fail("the last try is handed over, whatever came of it")
    assert waited <= PATIENCE_S + 1e-9
