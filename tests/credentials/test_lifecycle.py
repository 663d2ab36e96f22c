"""The lifecycle as a state machine: whatever is tried, the invariants hold."""

from __future__ import annotations

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from broker.credentials.lifecycle import USABLE, Move, State, Unlawful, move

ORDER = [State.STAGED, State.VERIFIED, State.ACTIVE, State.RETIRING, State.REVOKED, State.DESTROYED]


class Lifecycle(RuleBasedStateMachine):
    """Versions come and are moved at random."""

    def __init__(self) -> None:
        super().__init__()
        self.versions: dict[int, State] = {}

    @rule()
    def stage(self) -> None:
        if len(self.versions) < 7:
            self.versions[len(self.versions) + 1] = State.STAGED

    @rule()
    def a_new_key_comes_into_use(self) -> None:
        self.stage()
        for step in (Move.VERIFY, Move.ACTIVATE):
            self.try_to_move(len(self.versions), step)

    @rule(number=st.integers(0, 7), step=st.sampled_from(Move))
    def try_to_move(self, number: int, step: Move) -> None:
        before = dict(self.versions)
        changes = move(self.versions, number, step)
        assert self.versions == before, "move is pure"
        if isinstance(changes, Unlawful):
            expected = {f"{step}_from_{before[number]}"} if number in before else {"unknown_version"}
            assert changes.name in expected | {"activate_while_retiring", "roll_back_without_retiring"}
            return
        for changed, state in changes.items():
            back_in_use = (before[changed], state) == (State.RETIRING, State.ACTIVE)
            assert back_in_use or ORDER.index(state) > ORDER.index(before[changed]), "else a version never goes back"
        after = {**before, **changes}
        if step not in {Move.REVOKE, Move.DESTROY}:
            lost = {n for n, state in before.items() if state in USABLE} - {
                n for n, state in after.items() if state in USABLE
            }
            assert not lost or any(state is State.ACTIVE for state in after.values()), "a rotation leaves a usable key"
        if step is Move.ACTIVATE:
            assert changes[number] is State.ACTIVE
            usable = {n for n, state in before.items() if state in USABLE}
            assert all(after[n] in USABLE for n in usable), "activation takes nothing out of use"
        self.versions |= changes

    @invariant()
    def at_most_one_is_active(self) -> None:
        assert list(self.versions.values()).count(State.ACTIVE) <= 1

    @invariant()
    def one_that_is_retiring_has_a_newer_one_active(self) -> None:
        states = list(self.versions.values())
        assert states.count(State.RETIRING) <= states.count(State.ACTIVE)


TestLifecycle = Lifecycle.TestCase


def test_only_these_moves_are_lawful() -> None:
    lawful = {(state, step) for state in State for step in Move if not isinstance(move({1: state}, 1, step), Unlawful)}
    assert lawful == {
        (State.STAGED, Move.VERIFY),
        (State.VERIFIED, Move.ACTIVATE),
        (State.VERIFIED, Move.REVOKE),
        (State.ACTIVE, Move.REVOKE),
        (State.RETIRING, Move.REVOKE),
        (State.RETIRING, Move.RETIRE),
        (State.STAGED, Move.DESTROY),
        (State.VERIFIED, Move.DESTROY),
        (State.REVOKED, Move.DESTROY),
    }


def test_what_a_rotation_refuses_is_refused_by_its_name() -> None:
    in_grace = {1: State.RETIRING, 2: State.ACTIVE, 3: State.VERIFIED}
    assert move(in_grace, 3, Move.ACTIVATE) == Unlawful("activate_while_retiring")
    assert move({1: State.ACTIVE}, 1, Move.ROLL_BACK) == Unlawful("roll_back_without_retiring")
    assert move(in_grace, 2, Move.RETIRE) == Unlawful("retire_from_active")
    assert move(in_grace, 9, Move.RETIRE) == Unlawful("unknown_version")


def test_rolling_back_or_revoking_the_new_key_brings_the_old_one_back() -> None:
    in_grace = {1: State.RETIRING, 2: State.ACTIVE}
    for step in (Move.ROLL_BACK, Move.REVOKE):
        assert move(in_grace, 2, step) == {2: State.REVOKED, 1: State.ACTIVE}
