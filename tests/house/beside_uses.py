"""What a revision of the schema does that uses would wait for, or that can't be done twice; read from its text."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass, field

# What each of Alembic's operations on a table that exists is told, if it is never right; {} is the table.
_NEVER = {
    "alter_column": "{}: a changed column is read through, or written anew, while uses wait: add another one",
    "create_unique_constraint": "{}: make a unique index concurrently",
    "create_check_constraint": "{}: the check reads the whole table: add it NOT VALID, and validate it later",
    "create_foreign_key": "{}: there are no foreign keys",
    "create_primary_key": "{}: make a unique index concurrently",
    "create_exclude_constraint": "{}: it would be built while uses wait",
    "rename_table": "{}: brokers of the version before go by the old name",
    "bulk_insert": "{}: rows are written by a duty of the worker, page by page",
}
# Where each operation names its table, within a batch one place less.
_TABLE_AT = {
    **dict.fromkeys(_NEVER, 1),
    **dict.fromkeys(
        ("alter_column", "rename_table", "bulk_insert", "add_column", "drop_column", "create_primary_key"), 0
    ),
    **dict.fromkeys(("create_primary_key", "create_index", "drop_index", "drop_constraint"), 1),
}
_IN_PAGES = "{}: rows are written by a duty of the worker, page by page"
_SQL = {
    r"\bUPDATE (\S+) SET\b": _IN_PAGES,
    r"\bDELETE FROM (\S+)": _IN_PAGES,
    r"\bINSERT INTO (\S+) .*\bSELECT\b": _IN_PAGES,
    r"\bTRUNCATE (?!ON\b)(?:TABLE )?(\S+)": _IN_PAGES,
    # ON ONLY is how the index of a partitioned table begins: it holds nothing until those of the parts are attached.
    r"\bCREATE (?:UNIQUE )?INDEX (?!CONCURRENTLY).*\bON (?!ONLY\b)(\S+)": "{}: build it by op.create_index",
    r"\bALTER TABLE (\S+) .*\bSET NOT NULL\b": "{}: it would be read through while uses wait",
    r"\bALTER TABLE (\S+) .*\bTYPE\b": "{}: it would be written anew while uses wait: add another column",
    r"\bALTER TABLE (\S+) .*\bRENAME\b": "{}: brokers of the version before go by the old name",
    r"\bALTER TABLE (\S+) .*\bADD (?:CONSTRAINT|CHECK|UNIQUE|PRIMARY)\b(?!.*\bNOT VALID\b)": "{}: add it NOT VALID",
}
_ALTERS = re.compile(r"\bALTER TABLE (\S+)|\bCREATE (?:POLICY|TRIGGER) .*?\bON (\S+)", re.IGNORECASE)
_FUNCTION = re.compile(r"CREATE (?:OR REPLACE )?FUNCTION", re.IGNORECASE)


def complaints(text: str) -> list[str]:
    """What is wrong with the revision of this text, and what to do instead."""
    module = ast.parse(text)
    down = [part for part in module.body if isinstance(part, ast.FunctionDef) and part.name == "downgrade"]
    up = [part for part in module.body if part not in down]
    reader = _Reader()
    for part in up:
        reader.learn(part)
    for part in up:
        reader.visit(part)
    said = [*reader.said()]
    if any("autocommit_block" in ast.unparse(part) for part in down):
        said.append("downgrade: going down is one transaction, so nothing is done concurrently")
    return said


@dataclass
class _Reader(ast.NodeVisitor):
    """Goes through what a revision does when it goes up."""

    created: set[str] = field(default_factory=set)
    altered: set[str] = field(default_factory=set)
    names: dict[str, set[str]] = field(default_factory=dict)
    found: list[str] = field(default_factory=list)
    in_block: bool = False
    has_block: bool = False
    outside: bool = False

    def learn(self, part: ast.AST) -> None:
        """Learn which tables are made here, and what names stand for."""
        for node in ast.walk(part):
            match node:
                case ast.Assign(targets=[ast.Name(id=name)], value=value):
                    self.names[name] = self._texts(value)
                case ast.For(target=ast.Name(id=name), iter=ast.Tuple(elts=each) | ast.List(elts=each)):
                    self.names[name] = {text for one in each for text in self._texts(one)}
                case ast.withitem(
                    context_expr=ast.Call(func=ast.Attribute(attr="batch_alter_table"), args=[table, *_]),
                    optional_vars=ast.Name(id=name),
                ):
                    self.names[name] = self._texts(table)
        for node in ast.walk(part):
            match node:
                case ast.Call(func=ast.Attribute(attr="create_table"), args=[table, *_]):
                    self.created |= self._texts(table)

    def said(self) -> Iterator[str]:
        yield from self.found
        if len(self.altered) > 1:
            several = ", ".join(sorted(self.altered))
            yield f"{several}: each is altered in a revision of its own, or one is held while another is waited for"
        if self.has_block and (self.outside or self.altered):
            yield "indexes that are built concurrently have a revision of their own, as the rest would be done twice"

    def visit_With(self, node: ast.With) -> None:
        if any("autocommit_block" in ast.unparse(item.context_expr) for item in node.items):
            self.has_block = self.in_block = True
            for part in node.body:
                self.visit(part)
            self.in_block = False
        else:
            self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> None:
        match node.func:
            case ast.Attribute(value=ast.Name(id=who), attr=what) if what in _TABLE_AT:
                self._operation(node, who, what)
            case ast.Attribute(attr="create_table"):
                self.outside = True
            case ast.Attribute(attr="execute" | "exec_driver_sql" | "scalar" | "scalars"):
                self._statement(node)
        self.generic_visit(node)

    def _operation(self, node: ast.Call, who: str, what: str) -> None:
        at = _TABLE_AT[what]
        given = next((word.value for word in node.keywords if word.arg == "table_name"), None)
        named = node.args[at] if at < len(node.args) else given
        tables = self.names.get(who, set()) if who != "op" else self._texts(named)
        for table in sorted(tables - self.created):
            if what in _NEVER:
                self.found.append(_NEVER[what].format(table))
            elif what == "create_index":
                self._index(node, table)
            elif what == "add_column":
                self._column(node, table)
            if not self.in_block:
                self.altered.add(table)

    def _index(self, node: ast.Call, table: str) -> None:
        words = {
            word.arg for word in node.keywords if isinstance(word.value, ast.Constant) and word.value.value is True
        }
        if not self.in_block or not {"postgresql_concurrently", "if_not_exists"} <= words:
            self.found.append(
                f"{table}: an index is built within op.get_context().autocommit_block(), with "
                "postgresql_concurrently=True and if_not_exists=True"
            )

    def _column(self, node: ast.Call, table: str) -> None:
        column = next(
            (arg for arg in node.args if isinstance(arg, ast.Call) and ast.unparse(arg.func).endswith("Column")), None
        )
        if column is None:
            self.found.append(f"{table}: write the column where it is added, so that it can be read here")
            return
        words = {word.arg: word.value for word in column.keywords}
        default = words.get("server_default")
        if default is None and not _is(words.get("nullable"), True):
            self.found.append(f"{table}: a new column is nullable, or has a constant server_default")
        if default is not None and not _is_constant(default):
            self.found.append(f"{table}: a default that isn't constant is written into every row while uses wait")
        if any(_is(words.get(word), True) for word in ("unique", "index", "primary_key")):
            self.found.append(f"{table}: the new column's index is built concurrently, in the next revision")
        if any(ast.unparse(part).startswith(("sa.Computed", "sa.Identity")) for part in column.args):
            self.found.append(f"{table}: the new column is written into every row while uses wait")

    def _statement(self, node: ast.Call) -> None:
        if any(
            isinstance(part, ast.Attribute) and part.attr in {"update", "delete", "from_select"}
            for argument in node.args
            for part in ast.walk(argument)
        ):
            self.found.append(_IN_PAGES.format(ast.unparse(node)))
        self.outside |= not self.in_block
        for text in sorted({text for argument in node.args[:1] for text in self._texts(argument)}):
            if _FUNCTION.match(text.strip()):
                continue
            for pattern, complaint in _SQL.items():
                for table in re.findall(pattern, text, re.IGNORECASE):
                    if table not in self.created:
                        self.found.append(complaint.format(table))
            for found in _ALTERS.findall(text):
                self.altered |= {table for table in found if table} - self.created

    def _texts(self, node: ast.AST | None) -> set[str]:
        """What an expression may say, white space as one space; what nobody knows is its own text."""
        match node:
            case None:
                return set()
            case ast.Constant(value=str(text)):
                return {re.sub(r"\s+", " ", text)}
            case ast.Name(id=name) if name in self.names:
                return self.names[name]
            case ast.Call(func=ast.Attribute(attr="f" | "text"), args=[inner, *_]):
                return self._texts(inner)
            case ast.FormattedValue(value=value):
                return self._texts(value)
            case ast.JoinedStr(values=parts):
                return self._joined(parts)
            case ast.BinOp(left=left, op=ast.Add(), right=right):
                return self._joined([left, right])
            case _:
                return {ast.unparse(node)}

    def _joined(self, parts: list[ast.expr]) -> set[str]:
        texts = {""}
        for part in parts:
            texts = {before + after for before in texts for after in self._texts(part)}
        return texts


def _is(node: ast.expr | None, value: object) -> bool:
    return isinstance(node, ast.Constant) and node.value is value


def _is_constant(node: ast.expr) -> bool:
    match node:
        case ast.Constant():
            return True
        case ast.Call(func=ast.Attribute(attr="true" | "false")):
            return True
        case ast.Call(func=ast.Attribute(attr="text"), args=[ast.Constant(value=str(text))]):
            return "(" not in text and not text.upper().startswith("CURRENT")
        case _:
            return False
