"""What serves runs on uvloop, whose transports are its own: the same holds there."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
import uvloop

from tests.wire import test_answers, test_server

Case = Callable[..., Coroutine[Any, Any, None]]

ANSWERS: list[Case] = [
    test_answers.test_odd_bytes_in_a_value_come_through_as_they_are,
    test_answers.test_a_connection_on_which_something_came_unasked_is_not_used_again,
    test_answers.test_an_early_answer_to_a_long_body_is_handed_on_though_the_connection_breaks,
    test_answers.test_what_the_body_raises_reaches_whoever_waits_for_the_answer,
    test_answers.test_a_slow_reader_holds_its_upstream_back,
]
LIMITED: list[Case] = [
    test_server.test_a_head_that_trickles_is_not_waited_for,
    test_server.test_an_idle_connection_is_kept_for_its_time_and_then_closed,
    test_server.test_the_second_head_has_its_own_time,
    test_server.test_a_connection_too_many_is_told_so,
    test_server.test_who_does_not_take_the_answer_is_cut_off,
    test_server.test_bounds_are_settable,
]
MET: list[Case] = [
    test_server.test_requests_come_one_after_another_on_one_connection,
    test_server.test_a_problem_answers_what_is_no_request,
    test_server.test_a_head_without_end_is_refused_while_it_comes,
    test_server.test_a_body_that_nobody_reads_is_dropped_and_the_connection_goes_on,
    test_server.test_an_application_is_told_that_whoever_asked_left,
    test_server.test_what_fails_is_a_problem_before_the_answer_and_broken_off_within_it,
    test_server.test_answers_are_framed_for_who_asked,
    test_server.test_a_body_is_asked_for_where_its_sender_waits_to_be,
]


@pytest.mark.parametrize("case", [*ANSWERS, *LIMITED], ids=lambda case: case.__name__)
async def test_it_holds_on_uvloop(case: Case) -> None:
    await asyncio.to_thread(uvloop.run, case())


@pytest.mark.parametrize("case", MET, ids=lambda case: case.__name__)
async def test_it_holds_on_uvloop_behind_an_application(case: Case) -> None:
    async def within() -> None:
        async with test_server.met() as room:
            await case(room)

    await asyncio.to_thread(uvloop.run, within())


@pytest.mark.parametrize("vector", test_answers.VECTORS, ids=[vector["name"] for vector in test_answers.VECTORS])
async def test_each_answer_is_accepted_or_refused_on_uvloop(vector: dict[str, Any]) -> None:
    await asyncio.to_thread(uvloop.run, test_answers.test_each_is_accepted_or_refused_as_written(vector, 1))
