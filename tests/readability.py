"""Measure how readable the code and its documentation are, without a network.

`python -m tests.readability` prints a table of figures, and every place that breaks a limit. `--all` also lists the
places that a limit tolerates. `--since REVISION` counts commit subjects that are too long. tests/test_readability.py
fails where a figure is above its limit.
"""

import argparse
import ast
import io
import re
import statistics
import subprocess
import sys
import tokenize
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

from radon.complexity import add_inner_blocks, cc_visit_ast  # type: ignore[import-untyped]
from radon.visitors import Function  # type: ignore[import-untyped]

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "sync_service"

MAX_SUBJECT_LENGTH = 72
MAX_COMPLEXITY = 10

OPENINGS = "sentences that open with What, Who, …"
CONTAINING = "sentences that contain what, who, …"
PARTICIPLES = "functions named by a participle"
OLD_BOUND_NAMES = "bounds named MOST_, LEAST_, …"
COMPLEX_FUNCTIONS = "functions of complexity over 10"
NESTED_CONDITIONALS = "nested conditional expressions"

# The first two are percentages. All other figures are only printed.
LIMITS = {OPENINGS: 1, CONTAINING: 4, PARTICIPLES: 0, OLD_BOUND_NAMES: 0, COMPLEX_FUNCTIONS: 0, NESTED_CONDITIONALS: 0}

OPENING = re.compile(r"(?:What|Who|Whoever|Nobody|Nothing|Those who|That which)\b")
ANYWHERE = re.compile(r"\b(?:what|who|whoever|whose|whom|nobody|nothing)\b", re.IGNORECASE)

IRREGULAR_PARTICIPLES = re.compile(
    "begun|bound|broken|brought|built|caught|chosen|done|drawn|driven|fallen|felt|found|frozen|given|gone|grown|heard"
    "|held|hidden|kept|known|laid|led|left|lent|lost|made|meant|met|paid|proven|said|seen|sent|shown|sold|spent|spoken"
    "|stolen|stood|sworn|taken|taught|thought|told|torn|understood|woken|won|worn|written"
)
# Present tense, or no verb at all, although they end in -ed.
NO_PARTICIPLES = re.compile("bed|bleed|breed|embed|exceed|feed|heed|need|proceed|red|seed|shed|shred|speed|succeed")

# A full stop and its like before a space, but not in an abbreviation; the end of a table's cell. The separator is kept,
# for its line breaks are counted.
SENTENCE_END = re.compile(r"((?<!\be\.g\.)(?<!\bi\.e\.)(?<!\betc\.)(?<=[.!?…])[\"'”)*_]*\s+|\|)")

# `noqa: X`, `type: ignore[x]` and `pragma: …` at the start of a comment; what follows them is prose.
DIRECTIVE = re.compile(
    r"(?:noqa(?::\s*[A-Z]+\d+(?:,\s*[A-Z]+\d+)*)?|type:\s*ignore(?:\[[\w,-]+\])?|pragma:[^#]*)[#\s]*"
)

OLD_BOUNDS = re.compile(r"_?(?:MOST|LONGEST|SMALLEST|SHORTEST|LEAST|OLDEST)(?:_|$)")
BOUNDS = re.compile(r"_?(?:MAX|MIN)(?:_|$)")


@dataclass(frozen=True, slots=True)
class Place:
    """A line of a file, and the text or the name that was found there."""

    file: str
    line: int
    text: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.text}"


@dataclass(frozen=True, slots=True)
class Measure:
    """A figure, and the places that it counts."""

    name: str
    value: float
    unit: str = ""
    places: tuple[Place, ...] = ()

    @property
    def limit(self) -> float | None:
        """The value that must not be exceeded."""
        return LIMITS.get(self.name)

    @property
    def holds(self) -> bool:
        return self.limit is None or self.value <= self.limit


@cache
def list_nodes(source: str) -> list[ast.AST]:
    """Return all nodes of a module's syntax tree; the first is the tree. Several measures read each module."""
    return list(ast.walk(ast.parse(source)))


@cache
def list_tokens(source: str) -> list[tokenize.TokenInfo]:
    """Return the tokens of a module."""
    return list(tokenize.generate_tokens(io.StringIO(source).readline))


# --- prose --------------------------------------------------------------------------------------------------------


def split_sentences(text: str) -> Iterator[tuple[int, str]]:
    """Yield each sentence of a text with the number of lines above it.

    An empty line, an item of a list, a cell of a table and a line that is indented like code end a sentence.
    """
    kept: list[str] = []
    began = 0
    for number, line in enumerate([*text.splitlines(), ""]):
        alone = line.startswith("    ")
        if kept and (alone or not line.strip() or re.match(r"\s*(?:[-*|#>]|\d+\.)\s*", line)):
            yield from _split_paragraph(kept, began)
            kept = []
        if line.strip():
            if not kept:
                began = number
            kept.append(line)
            if alone or line.startswith("#"):
                yield from _split_paragraph(kept, began)
                kept = []


def _split_paragraph(lines: list[str], began: int) -> Iterator[tuple[int, str]]:
    text = re.sub(r"`[^`]*`", lambda code: "X" + "\n" * code[0].count("\n"), "\n".join(lines))
    text = re.sub(r"\]\([^)]*\)", "]", text)  # the URL of a link
    text = re.sub(r"https?://\S+", "X", text)
    line = began
    for part in SENTENCE_END.split(text):
        sentence = " ".join(part.split()).lstrip("-*|#>([\"'“0123456789.: ")
        if re.search(r"\w{2}", sentence):
            yield line, sentence
        line += part.count("\n")


def python_texts(source: str) -> Iterator[tuple[int, str]]:
    """Yield the docstrings and the comments of a module, each with its first line."""
    for node in list_nodes(source):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            yield node.lineno, _dedented(node.value.value)
    comments = (
        (token.start[0], token.string.lstrip("#! "), token.line.lstrip().startswith("#"))
        for token in list_tokens(source)
        if token.type == tokenize.COMMENT
    )
    yield from _joined((line, _without_directives(text), own) for line, text, own in comments)


def _dedented(docstring: str) -> str:
    first, _, rest = docstring.partition("\n")
    margin = min((len(line) - len(line.lstrip()) for line in rest.splitlines() if line.strip()), default=0)
    return "\n".join([first.strip(), *(line[margin:] for line in rest.splitlines())])


def _without_directives(comment: str) -> str:
    return DIRECTIVE.sub("", comment, count=1) if DIRECTIVE.match(comment) else comment


def sql_texts(source: str) -> Iterator[tuple[int, str]]:
    """Yield the comments of an SQL file, each with its first line."""
    lines = enumerate(source.splitlines(), start=1)
    found = ((number, line, re.search(r"--\s?(.*)", line)) for number, line in lines)
    yield from _joined((number, match[1], line.lstrip().startswith("--")) for number, line, match in found if match)


def markdown_texts(source: str) -> Iterator[tuple[int, str]]:
    """Yield a Markdown file without its blocks of code."""
    empty = re.sub(
        r"^( *)(```|~~~).*?^ *\2$", lambda block: "\n" * block[0].count("\n"), source, flags=re.DOTALL | re.MULTILINE
    )
    yield 1, re.sub(r"^    (?=\S)", "", re.sub(r"<!--.*?-->|<[^>\n]+>", "", empty), flags=re.MULTILINE)


def _joined(comments: Iterable[tuple[int, str, bool]]) -> Iterator[tuple[int, str]]:
    """Join comments that have lines of their own and follow each other."""
    kept: list[str] = []
    began = 0
    for line, text, own in comments:
        if kept and not (own and line == began + len(kept)):
            yield began, "\n".join(kept)
            kept = []
        if not own:
            yield line, text
            continue
        if not kept:
            began = line
        kept.append(text)
    if kept:
        yield began, "\n".join(kept)


TEXTS = {".py": python_texts, ".sql": sql_texts, ".md": markdown_texts}


def prose_files() -> list[Path]:
    """Return the files whose prose counts. A released migration cannot change, so its prose does not."""
    code = [file for kind in ("*.py", "*.sql") for file in PACKAGE.rglob(kind)]
    code = [file for file in code if not (file.parent.name == "migrations" and file.suffix == ".sql")]
    return sorted([*code, ROOT / "README.md", *(PACKAGE / "docs").glob("*.md")])


def sentences(file: Path) -> list[Place]:
    """Return the sentences of a file's comments and docstrings, or of its Markdown."""
    name = str(file.relative_to(ROOT))
    return [
        Place(name, line + above, sentence)
        for line, text in TEXTS[file.suffix](file.read_text())
        for above, sentence in split_sentences(text)
    ]


def prose_measures() -> list[Measure]:
    every = [place for file in prose_files() for place in sentences(file)]
    opening = tuple(place for place in every if OPENING.match(place.text))
    containing = tuple(place for place in every if ANYWHERE.search(place.text))
    return [
        Measure("sentences", len(every)),
        Measure(OPENINGS, 100 * len(opening) / len(every), "%", opening),
        Measure(CONTAINING, 100 * len(containing) / len(every), "%", containing),
    ]


# --- code ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Module:
    """A module of the package, parsed."""

    name: str
    source: str

    @property
    def nodes(self) -> list[ast.AST]:
        return list_nodes(self.source)

    @cached_property
    def code_lines(self) -> int:
        """The lines that hold code: neither empty, nor a comment, nor a docstring."""
        silent = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}
        lines = {
            line
            for token in list_tokens(self.source)
            if token.type not in silent
            for line in range(token.start[0], token.end[0] + 1)
        }
        for node in self.nodes:
            if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
                lines -= set(range(node.lineno, (node.end_lineno or node.lineno) + 1))
        return len(lines)

    def places(self, nodes: Iterable[tuple[int, str]]) -> tuple[Place, ...]:
        return tuple(Place(self.name, line, text) for line, text in nodes)


def modules() -> list[Module]:
    """Return the modules of the package that hold code."""
    every = [Module(str(file.relative_to(ROOT)), file.read_text()) for file in sorted(PACKAGE.rglob("*.py"))]
    return [module for module in every if module.code_lines]


def is_participle(name: str) -> bool:
    """Return whether a name opens with a past participle: `parked`, `told_time`, `_given`; but not `need_email`."""
    word = name.strip("_").split("_")[0]
    if NO_PARTICIPLES.fullmatch(word):
        return False
    return bool(IRREGULAR_PARTICIPLES.fullmatch(word) or re.fullmatch(r"[a-z]+ed", word))


def participles(nodes: Iterable[ast.AST]) -> Iterator[tuple[int, str]]:
    """Yield the functions whose name opens with a participle. A property is a value, so it may."""
    for node in nodes:
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        if is_participle(node.name) and not _is_property(node):
            yield node.lineno, node.name


def _is_property(function: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    names = {ast.unparse(decorator).rpartition(".")[2] for decorator in function.decorator_list}
    return bool(names & {"property", "cached_property", "setter", "deleter"})


def bounds(nodes: list[ast.AST], pattern: re.Pattern[str]) -> Iterator[tuple[int, str]]:
    """Yield the names of a module that the pattern matches, of constants only."""
    for statement in ast.iter_child_nodes(nodes[0]):
        targets = statement.targets if isinstance(statement, ast.Assign) else [getattr(statement, "target", None)]
        for name in (name for target in targets if target for name in ast.walk(target)):
            if isinstance(name, ast.Name) and pattern.match(name.id):
                yield name.lineno, name.id


def complex_functions(nodes: list[ast.AST]) -> Iterator[tuple[int, str]]:
    """Yield the functions whose cyclomatic complexity, by radon, is above the limit."""
    for block in add_inner_blocks(cc_visit_ast(nodes[0])):
        if isinstance(block, Function) and block.complexity > MAX_COMPLEXITY:
            yield block.lineno, f"{block.fullname} {block.complexity}"


def nested_conditionals(nodes: Iterable[ast.AST]) -> Iterator[tuple[int, str]]:
    """Yield the conditional expressions that stand in another one."""
    for node in nodes:
        if isinstance(node, ast.IfExp):
            inner = [each for each in ast.walk(node) if isinstance(each, ast.IfExp) and each is not node]
            if inner:
                yield node.lineno, ast.unparse(node)


def count(nodes: Iterable[ast.AST], kind: type[ast.AST]) -> int:
    """Return how many nodes of a kind there are."""
    return sum(isinstance(node, kind) for node in nodes)


def code_measures() -> list[Measure]:
    every = modules()
    sizes = sorted((module.code_lines, module.name) for module in every)
    lines = sum(size for size, _ in sizes)
    largest = sizes[-1]

    def counted(name: str, find: dict[Module, Iterable[tuple[int, str]]]) -> Measure:
        places = tuple(place for module, found in find.items() for place in module.places(found))
        return Measure(name, len(places), places=places)

    conditionals = sum(count(module.nodes, ast.IfExp) for module in every)
    expressions = sum(count(module.nodes, ast.expr) for module in every)
    return [
        counted(PARTICIPLES, {module: participles(module.nodes) for module in every}),
        counted(OLD_BOUND_NAMES, {module: bounds(module.nodes, OLD_BOUNDS) for module in every}),
        counted("bounds named MAX_ or MIN_", {module: bounds(module.nodes, BOUNDS) for module in every}),
        counted(COMPLEX_FUNCTIONS, {module: complex_functions(module.nodes) for module in every}),
        counted(NESTED_CONDITIONALS, {module: nested_conditionals(module.nodes) for module in every}),
        Measure("conditional expressions per 100 lines", 100 * conditionals / lines),
        Measure("expressions per line", expressions / lines),
        Measure("code lines", lines),
        Measure("code lines of the median module", statistics.median(size for size, _ in sizes)),
        Measure("code lines of the largest module", largest[0], places=(Place(largest[1], 1, f"{largest[0]} lines"),)),
    ]


# --- commits ------------------------------------------------------------------------------------------------------


def subject_measures(since: str) -> list[Measure]:
    """Measure the commits after that revision."""
    words = ["git", "log", "--format=%h %s", f"{since}..HEAD"]
    log = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    subjects = [line.split(" ", 1) for line in log]
    long = tuple(Place(commit, len(text), text) for commit, text in subjects if len(text) > MAX_SUBJECT_LENGTH)
    return [
        Measure(f"commits since {since}", len(subjects)),
        Measure(f"commit subjects over {MAX_SUBJECT_LENGTH} characters", len(long), places=long),
    ]


# --- the command --------------------------------------------------------------------------------------------------


def measures() -> list[Measure]:
    return [*prose_measures(), *code_measures()]


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.readability", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--all", action="store_true", help="also list the places that a limit tolerates")
    parser.add_argument("--since", metavar="REVISION", help="also measure the subjects of the commits after it")
    options = parser.parse_args(arguments)
    found = measures() + (subject_measures(options.since) if options.since else [])
    for measure in found:
        if measure.places and (options.all or not measure.holds):
            print(f"{measure.name}:", *measure.places, sep="\n  ", end="\n\n")
    for measure in found:
        limit = "" if measure.limit is None else f"at most {measure.limit:g}{measure.unit}"
        broken = "" if measure.holds else "  BROKEN"
        value = f"{measure.value:.1f}".removesuffix(".0") + measure.unit
        print(f"{measure.name:42}{value:>10}  {limit}{broken}")
    return 0 if all(measure.holds for measure in found) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
