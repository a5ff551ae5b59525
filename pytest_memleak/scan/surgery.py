"""Rewrites carried out on a tree that knows every blank and comment. Imports libcst: import it late."""

from __future__ import annotations

from collections.abc import Sequence

import libcst as cst
from libcst.metadata import PositionProvider

from pytest_memleak.scan.rewrites import Bound, Lift, Rewrite, Span, Wrap


class Surgery(cst.CSTTransformer):
    """One rewrite; `is_done` tells whether its place was found."""

    METADATA_DEPENDENCIES = (PositionProvider,)

    def __init__(self, rewrite: Rewrite) -> None:
        super().__init__()
        self.rewrite = rewrite
        self.is_done = False
        self._call: cst.BaseExpression | None = None
        self._imported = False

    def _span(self, node: cst.CSTNode) -> Span:
        place = self.get_metadata(PositionProvider, node)
        return Span(
            line=place.start.line,
            column=place.start.column,
            end_line=place.end.line,
            end_column=place.end.column,
        )

    def leave_Call(self, original_node: cst.Call, updated_node: cst.Call) -> cst.BaseExpression:
        """Take an opening call out of its statement, or give a call its bound."""
        rewrite = self.rewrite
        if isinstance(rewrite, Lift) and self._span(original_node) == rewrite.call:
            self._call = updated_node
            return cst.Name(rewrite.name)
        return self._bounded(original_node, updated_node)

    def leave_Name(self, original_node: cst.Name, updated_node: cst.Name) -> cst.BaseExpression:
        """`cache` as a decorator."""
        return self._bounded(original_node, updated_node)

    def leave_Attribute(self, original_node: cst.Attribute, updated_node: cst.Attribute) -> cst.BaseExpression:
        """`functools.cache` as a decorator."""
        return self._bounded(original_node, updated_node)

    def _bounded(self, original: cst.CSTNode, updated: cst.BaseExpression) -> cst.BaseExpression:
        if isinstance(self.rewrite, Bound) and self._span(original) == self.rewrite.expression:
            self.is_done = True
            return cst.parse_expression(self.rewrite.to)
        return updated

    def leave_ImportFrom(self, original_node: cst.ImportFrom, updated_node: cst.ImportFrom) -> cst.ImportFrom:
        """`from functools import cache` brings `lru_cache` too."""
        rewrite, names = self.rewrite, updated_node.names
        if not isinstance(rewrite, Bound) or not rewrite.imports or isinstance(names, cst.ImportStar):
            return updated_node
        is_functools = isinstance(original_node.module, cst.Name) and original_node.module.value == "functools"
        if not is_functools or not any(name.name.value == "cache" and name.asname is None for name in names):
            return updated_node
        self._imported = True
        *first, last = names
        comma = cst.Comma(whitespace_after=cst.SimpleWhitespace(" "))
        added = cst.ImportAlias(name=cst.Name("lru_cache"), comma=last.comma)
        return updated_node.with_changes(names=[*first, last.with_changes(comma=comma), added])

    def leave_IndentedBlock(self, original_node: cst.IndentedBlock, updated_node: cst.IndentedBlock) -> cst.BaseSuite:
        """Statements within a function or a class."""
        return updated_node.with_changes(body=self._with(original_node.body, updated_node.body))

    def leave_Module(self, original_node: cst.Module, updated_node: cst.Module) -> cst.Module:
        """Statements of the module itself."""
        if isinstance(self.rewrite, Bound) and self.rewrite.imports and not self._imported:
            self.is_done = False
        return updated_node.with_changes(body=self._with(original_node.body, updated_node.body))

    def _with(
        self, original: Sequence[cst.BaseStatement], updated: Sequence[cst.BaseStatement]
    ) -> Sequence[cst.BaseStatement]:
        """The statements, with those that a rewrite names in a `with` of their own."""
        rewrite = self.rewrite
        if isinstance(rewrite, Bound) or self.is_done:
            return updated
        starts = [self._span(statement).line for statement in original]
        if rewrite.line not in starts:
            return updated
        first = starts.index(rewrite.line)
        statement = updated[first]
        if not isinstance(statement, cst.SimpleStatementLine) or len(statement.body) != 1:
            return updated
        if isinstance(rewrite, Lift):
            return updated if self._call is None else self._lifted(updated, first, statement, rewrite, self._call)
        return self._wrapped(updated, starts, statement, rewrite)

    def _lifted(
        self,
        updated: Sequence[cst.BaseStatement],
        first: int,
        statement: cst.SimpleStatementLine,
        rewrite: Lift,
        call: cst.BaseExpression,
    ) -> Sequence[cst.BaseStatement]:
        self.is_done = True
        inner = statement.with_changes(leading_lines=())
        block = _with_block(call, rewrite.name, [inner], statement.leading_lines, None)
        return [*updated[:first], block, *updated[first + 1 :]]

    def _wrapped(
        self,
        updated: Sequence[cst.BaseStatement],
        starts: list[int],
        statement: cst.SimpleStatementLine,
        rewrite: Wrap,
    ) -> Sequence[cst.BaseStatement]:
        assigned = statement.body[0]
        if not isinstance(assigned, cst.Assign) or rewrite.last_line not in starts:
            return updated
        target = assigned.targets[0].target
        first, last = starts.index(rewrite.line), starts.index(rewrite.last_line)
        if not isinstance(target, cst.Name) or starts.count(rewrite.last_line) != 1:
            return updated
        inner = list(updated[first + 1 : last + 1])
        rest: list[cst.BaseStatement] = list(updated[last + 1 :])
        if rewrite.closes:
            closing = inner[-1]
            has_comment = isinstance(closing, cst.SimpleStatementLine) and (
                closing.trailing_whitespace.comment or any(line.comment for line in closing.leading_lines)
            )
            if not has_comment and isinstance(closing, cst.SimpleStatementLine) and len(closing.body) == 1:
                inner.pop()
        self.is_done = True
        block = _with_block(assigned.value, target.value, inner, statement.leading_lines, statement.trailing_whitespace)
        return [*updated[:first], block, *rest]


def _with_block(
    call: cst.BaseExpression,
    name: str,
    body: Sequence[cst.BaseStatement],
    leading_lines: Sequence[cst.EmptyLine],
    header: cst.TrailingWhitespace | None,
) -> cst.With:
    item = cst.WithItem(item=call, asname=cst.AsName(name=cst.Name(name)))
    suite = cst.IndentedBlock(body=body) if header is None else cst.IndentedBlock(body=body, header=header)
    return cst.With(items=[item], body=suite, leading_lines=leading_lines)
