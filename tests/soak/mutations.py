"""Make mutants of source files with mutmut's operators, and tell those that change nothing but a message.

mutmut itself swaps functions behind a trampoline, and so leaves out what is decorated (here all properties) and what stands outside of
functions (here domain separators and sizes). These mutants replace the whole file instead, so both are in.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import libcst as cst
from libcst.metadata import MetadataWrapper, ParentNodeProvider, PositionProvider
from mutmut.mutation.file_mutation import Mutation, MutationVisitor, OuterFunctionProvider, deep_replace
from mutmut.mutation.mutators import mutation_operators
from mutmut.mutation.pragma_handling import IgnoredCode

_COMPOUND = (cst.BaseCompoundStatement, cst.MatchCase, cst.ExceptHandler, cst.Else, cst.Finally)


@dataclass(frozen=True)
class Mutant:
    """One change of one file.

    Attributes:
        file: path from the root of the project.
        function: outermost function or method around it, "" where there is none.
        lines: lines of the statement.
        function_lines: lines of the function, none outside of functions.
        message: it changes only what is written in an exception's message, in the log or in a progress bar.
    """

    file: str
    function: str
    lines: range
    function_lines: range
    message: bool
    module: cst.Module
    mutation: Mutation

    def source(self) -> str:
        """Return the whole file with the change."""
        return deep_replace(self.module, self.mutation.original_node, self.mutation.mutated_node).code

    def change(self) -> str:
        """Return the lines that differ, which together with file and function name the mutant as long as the source stays."""
        diff = [*difflib.unified_diff(self.module.code.splitlines(), self.source().splitlines(), n=0, lineterm="")][2:]
        before, after = ([line[1:].strip() for line in diff if line[0] == sign] for sign in "-+")
        return f"{' '.join(before)}  ->  {' '.join(after)}"


class _Visitor(MutationVisitor):
    METADATA_DEPENDENCIES = (PositionProvider, OuterFunctionProvider, ParentNodeProvider)

    def _skip_node_and_children(self, node: cst.CSTNode) -> bool:
        if isinstance(node, cst.FunctionDef):  # its decorators are left out still
            node = node.with_changes(decorators=())
        return super()._skip_node_and_children(node)


def mutants_of(root: Path, file: str) -> Iterator[Mutant]:
    """Yield all mutants of a file, in the order of the source."""
    wrapper = MetadataWrapper(cst.parse_module((root / file).read_text()))
    visitor = _Visitor(mutation_operators, IgnoredCode(set(), set(), set()))
    wrapper.visit(visitor)
    position, parent = wrapper.resolve(PositionProvider), wrapper.resolve(ParentNodeProvider)

    def ancestry(node: cst.CSTNode) -> Iterator[cst.CSTNode]:
        while node is not wrapper.module:
            yield node
            node = parent[node]

    for mutation in visitor.mutations:
        around = [*ancestry(mutation.original_node)]
        functions = [node for node in around if isinstance(node, cst.FunctionDef)]
        classes = [node for node in around if isinstance(node, cst.ClassDef)]
        statement = next(node for node in around if isinstance(node, (cst.SimpleStatementLine, *_COMPOUND)))
        yield Mutant(
            file=file,
            function=".".join(node.name.value for node in [*classes[-1:], *functions[-1:]]),
            lines=_lines(position, statement, header=isinstance(statement, _COMPOUND)),
            function_lines=_lines(position, functions[-1]) if functions else range(0),
            message=_is_message(around),
            module=wrapper.module,
            mutation=mutation,
        )


def _lines(position: dict, node: cst.CSTNode, *, header: bool = False) -> range:
    where = position[node]
    body = getattr(node, "body", None)
    if header and isinstance(body, cst.IndentedBlock):
        return range(where.start.line, max(position[body].start.line, where.start.line + 1))
    return range(where.start.line, where.end.line + 1)


def _is_message(around: list[cst.CSTNode]) -> bool:
    for node, inner in zip(around[1:], around, strict=False):
        if isinstance(node, cst.Raise) and node.exc is inner:
            return True
    calls = [node.func for node in around if isinstance(node, cst.Call)]
    writers = [func.value if isinstance(func, cst.Attribute) else func for func in calls]
    return any(isinstance(writer, cst.Name) and writer.value in {"logger", "tqdm", "bar"} for writer in writers)
