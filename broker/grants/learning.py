"""The smallest rules that cover what a grant was used for.  Pure.

A segment of a path becomes ``*`` where several values of it stand in the same place: two that look like ids, or more
words than a program has names for.  No rule is wider than the grant that it is learnt for.  Each method and path of the
rules is needed: without it a use would be refused.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple, get_args

from broker.providers.rule import Method, Rule, covers, decoded, faults_of_patterns

METHODS: Final[tuple[Method, ...]] = get_args(Method)
_EVERY: Final = ("/", "/**")
_STAR: Final = "*"
# More words than so many in one place are taken for names of things; fewer, if there would be too many paths else.
_WORDS: Final = (10, 3, 0)
# Paths that a method may have, shapes of paths that are kept until they are brought together, and a path's length.
_PATHS_MOST: Final = 100
_SHAPES_MOST: Final = 4_000
_LONGEST: Final = 500
# A pattern that would be wider than the grant is written out for so many paths; for more, the grant's own stays.
_WRITTEN_OUT: Final = 10

_WRITABLE: Final = re.compile(r'(?!\.{1,2}$)[!"$-)+-.0-:;=>@-\[\]-~<]*')
_VERSION: Final = re.compile(r"v\d{1,3}")
_LONG: Final = 24

Shape = tuple[str, ...]


class Lost(NamedTuple):
    """What the present grant allows and the new rules don't: by ``rule``, such a call."""

    rule: str
    method: str
    path: str


class Learning:
    """Takes uses, one after the other, and tells the rules.

    It holds no more than some thousand shapes of paths, however many uses there are.
    """

    def __init__(self, present: Sequence[Rule]) -> None:
        self._present = present
        self._shapes: defaultdict[Method, set[Shape]] = defaultdict(set)
        self._kept: defaultdict[Method, set[str]] = defaultdict(set)

    def add(self, method: Method, path: str) -> None:
        """Take a use that the present rules allow; ``path`` is as it was sent, percent-encoded."""
        shape = _shape(decoded(path) or "/")
        if shape in self._shapes[method]:
            return
        patterns = _of(self._present, method)
        if _is_one(_pattern(shape)) and covers(patterns, _pattern(shape)):
            self._shapes[method].add(shape)
        else:
            own = (Rule(methods=(method,), paths=(one,)) for one in patterns)
            self._kept[method].update(rule.paths[0] for rule in own if rule.allows(method, path))
        if len(self._shapes[method]) > _SHAPES_MOST:
            self._bring_together(method)

    def keep(self, method: Method) -> None:
        """Keep what the present rules allow with a method, as nobody can tell what it was used for."""
        self._kept[method].update(_of(self._present, method))
        self._shapes[method].clear()

    def rules(self) -> tuple[Rule, ...]:
        """The rules, in one order whatever the order of the uses."""
        needs = [(method, _pattern(shape)) for method in METHODS for shape in sorted(self._shapes[method])]
        needs += [(method, pattern) for method in METHODS for pattern in sorted(self._kept[method])]
        offered = {(method, pattern) for method in METHODS for pattern in self._patterns(method)}
        return _together(_needed(offered, needs))

    def _patterns(self, method: Method) -> set[str]:
        shapes, kept = self._shapes[method], self._kept[method]
        for words in _WORDS:
            found = self._within(method, _general(shapes, words), shapes) | kept
            if len(found) <= _PATHS_MOST:
                return found
        return set(_of(self._present, method))

    def _within(self, method: Method, general: Iterable[Shape], shapes: set[Shape]) -> set[str]:
        """General patterns; in place of those that are wider than the grant, narrower ones."""
        present, found = _of(self._present, method), set[str]()
        for pattern in map(_pattern, general):
            if covers(present, pattern):
                found.add(pattern)
                continue
            single = [one for one in map(_pattern, shapes) if covers((pattern,), one)]
            if len(single) <= _WRITTEN_OUT:
                found.update(single)
            else:
                found.update(own for own in present if any(covers((own,), one) for one in single))
        return found

    def _bring_together(self, method: Method) -> None:
        for words in _WORDS:
            shapes = {_shape(pattern) for pattern in self._patterns_of(method, words)}
            if len(shapes) <= _SHAPES_MOST // 2:
                self._shapes[method] = shapes
                return
        self.keep(method)

    def _patterns_of(self, method: Method, words: int) -> Iterable[str]:
        """General patterns, or narrower ones where these are wider than the grant."""
        for pattern in self._within(method, _general(self._shapes[method], words), self._shapes[method]):
            if "**" in pattern or _pattern(_shape(pattern)) != pattern:
                self._kept[method].add(pattern)
            else:
                yield pattern


def is_within(rules: Sequence[Rule], present: Sequence[Rule]) -> bool:
    """Whether these rules allow nothing that the present ones don't."""
    return all(
        covers(_of(present, method), pattern) for rule in rules for method in rule.methods for pattern in rule.paths
    )


def lost(present: Sequence[Rule], rules: Sequence[Rule]) -> list[Lost]:
    """Examples of what the present rules allow and these don't.

    There is one for each method and path of the present ones of which anything is lost.
    """
    given = present or (Rule(methods=METHODS, paths=_EVERY),)
    pairs = [(method, pattern) for rule in given for method in rule.methods for pattern in rule.paths]
    examples = ((method, pattern, _example(method, pattern, rules)) for method, pattern in pairs)
    return [Lost(f"{method} {pattern}" if present else "", method, path) for method, pattern, path in examples if path]


def _example(method: Method, pattern: str, rules: Sequence[Rule]) -> str:
    """A path of the pattern that the rules don't allow; empty if none comes to mind."""
    paths = (pattern.replace("**", word).replace("*", word.replace("/", "-")) for word in ("x", "other", "1", "x/y"))
    return next((path for path in paths if not any(rule.allows(method, path) for rule in rules)), "")


def _of(rules: Sequence[Rule], method: str) -> tuple[str, ...]:
    """The patterns of what rules allow with a method; GET includes HEAD."""
    if not rules:
        return _EVERY
    also = {"HEAD": {"GET"}}.get(method, set()) | {method}
    return tuple(path for rule in rules if not also.isdisjoint(rule.methods) for path in rule.paths)


def _shape(path: str) -> Shape:
    """A decoded path's segments; one that can't be written in a rule is any."""
    return tuple(part if _WRITABLE.fullmatch(part) else _STAR for part in path.split("/")[1:])


def _is_one(pattern: str) -> bool:
    """Whether a rule may hold it."""
    return len(pattern) <= _LONGEST and not [*faults_of_patterns("", (pattern,))]


def _pattern(shape: Shape) -> str:
    return "/" + "/".join(shape)


def _general(shapes: Iterable[Shape], words: int) -> set[Shape]:
    """The shapes, brought together where their segments vary."""
    below: defaultdict[str, set[Shape]] = defaultdict(set)
    found = set()
    for shape in shapes:
        if shape:
            below[shape[0]].add(shape[1:])
        else:
            found.add(shape)
    names = [part for part in below if _varies(part)]
    plain = [part for part in below if part and not _varies(part)]
    together = (names if len(names) > 1 else []) + (plain if len(plain) > words else [])
    if together:
        below[_STAR] = set().union(*(below[part] for part in together), below.get(_STAR, set()))
    for part in below.keys() - set(together) - {_STAR} | ({_STAR} & below.keys()):
        found.update((part, *rest) for rest in _general(below[part], words))
    return found


def _varies(part: str) -> bool:
    """Whether a segment looks like the name of one thing among many: an id, a number, a date."""
    if part == _STAR or len(part) > _LONG or "%" in part:
        return True
    return any(letter.isdigit() for letter in part) and not _VERSION.fullmatch(part)


def _needed(offered: set[tuple[Method, str]], needs: Sequence[tuple[Method, str]]) -> set[tuple[Method, str]]:
    """What is offered, without what all needs can do without."""
    by = [{one for one in offered if _serves(one, need)} for need in needs]
    serving: defaultdict[tuple[Method, str], list[set[tuple[Method, str]]]] = defaultdict(list)
    for all_ in by:
        for one in all_:
            serving[one].append(all_)
    left = set(offered)
    # The widest go first, if they can: what is left is as narrow as may be.
    for one in sorted(offered, key=lambda each: (-each[1].count("*"), len(each[1]), each)):
        if all(len(all_) > 1 for all_ in serving[one]):
            left.discard(one)
            for all_ in serving[one]:
                all_.discard(one)
    return left


def _serves(offered: tuple[Method, str], need: tuple[Method, str]) -> bool:
    same = offered[0] == need[0] or (offered[0], need[0]) == ("GET", "HEAD")
    return same and covers((offered[1],), need[1])


def _together(pairs: Iterable[tuple[Method, str]]) -> tuple[Rule, ...]:
    """Rules of pairs of method and path: paths with the same methods are one rule."""
    methods: defaultdict[str, list[Method]] = defaultdict(list)
    for method, pattern in sorted(pairs, key=lambda pair: METHODS.index(pair[0])):
        methods[pattern].append(method)
    paths: defaultdict[tuple[Method, ...], list[str]] = defaultdict(list)
    for pattern, of in methods.items():
        paths[tuple(of)].append(pattern)
    return tuple(
        Rule(methods=of, paths=tuple(sorted(each))) for of, each in sorted(paths.items(), key=lambda one: one[0])
    )
