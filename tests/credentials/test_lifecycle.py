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
        if len(self.versions) < 6:
            self.versions[len(self.versions) + 1] = State.STAGED

    @rule(number=st.integers(0, 7), step=st.sampled_from(Move))
    def try_to_move(self, number: int, step: Move) -> None:
        before = dict(self.versions)
        changes = move(self.versions, number, step)
        assert self.versions == before, "move is pure"
        if isinstance(changes, Unlawful):
            expected = "unknown_version" if number not in before else f"{step}_from_{before[number]}"
            assert changes.name == expected
            return
        for changed, state in changes.items():
            assert ORDER.index(state) > ORDER.index(before[changed]), "a version never goes back"
        if step is Move.ACTIVATE:
            assert changes[number] is State.ACTIVE
            usable = {n for n, state in before.items() if state in USABLE}
            after = {**before, **changes}
            assert all(after[n] in USABLE for n in usable), "activation takes nothing out of use"
        self.versions |= changes

    @invariant()
    def at_most_one_is_active(self) -> None:
        assert list(self.versions.values()).count(State.ACTIVE) <= 1


TestLifecycle = Lifecycle.TestCase


def test_only_these_moves_are_lawful() -> None:
    lawful = {(state, step) for state in State for step in Move if not isinstance(move({1: state}, 1, step), Unlawful)}
    assert lawful == {
        (State.STAGED, Move.VERIFY),
        (State.VERIFIED, Move.ACTIVATE),
        (State.VERIFIED, Move.REVOKE),
        (State.ACTIVE, Move.REVOKE),
        (State.RETIRING, Move.REVOKE),
        (State.STAGED, Move.DESTROY),
        (State.VERIFIED, Move.DESTROY),
        (State.REVOKED, Move.DESTROY),
    }
