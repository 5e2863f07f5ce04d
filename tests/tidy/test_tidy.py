"""The house rules that no other tool checks: sizes, layers, safety comments, nothing left to do."""

from __future__ import annotations

import ast
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ENGINE = ROOT / "crates" / "engine" / "src"
FILE_LINES_MAX = 600
# A stub describes one module, whatever that has, and cannot be split.
STUB_LINES_MAX = 900
FUNCTION_LINES_MAX = 70

# What a layer of the engine may name besides itself. A layer that is not listed may name any other.
LAYER_MAY_NAME = {
    "driver": set(),
    "reactor": {"driver"},
}
# What a layer must not name, whatever else it may.
LAYER_MUST_NOT_NAME = {
    "http": {"driver"},
    "timeline": {"http", "transport"},
}


def tracked_files(*suffixes: str) -> list[Path]:
    """Files of the work tree that git tracks or would add, with one of the suffixes."""
    listing = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    paths = [ROOT / line for line in listing.stdout.splitlines()]
    return sorted({path for path in paths if path.suffix in suffixes and path.is_file()})


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


RUST_FILES = tracked_files(".rs")
PYTHON_FILES = tracked_files(".py", ".pyi")
CODE_FILES = RUST_FILES + PYTHON_FILES

each_rust_file = pytest.mark.parametrize("path", RUST_FILES, ids=name_of)
each_python_file = pytest.mark.parametrize("path", PYTHON_FILES, ids=name_of)
each_code_file = pytest.mark.parametrize("path", CODE_FILES, ids=name_of)


RUST_TOKEN = re.compile(
    r"""
      (?P<line>//[^\n]*)
    | (?P<block>/\*.*?\*/)
    | (?P<raw>\bb?r(?P<hashes>\#*)".*?"(?P=hashes))
    | (?P<string>b?"(?:\\.|[^"\\])*")
    | (?P<char>b?'(?:\\[^\n']+|[^\\'\n])')
    """,
    re.VERBOSE | re.DOTALL,
)


def rust_code_only(source: str) -> str:
    """The source with comments, strings and characters blanked, its lines kept.

    >>> rust_code_only('let a = "use crate::x"; // use crate::y')
    'let a =               ;                 '
    """
    return RUST_TOKEN.sub(lambda match: re.sub(r"[^\n]", " ", match.group()), source)


def layers_named(code: str) -> set[str]:
    """The engine's modules that a piece of Rust code names through ``crate::``.

    >>> sorted(layers_named("use crate::{driver::Driver, reactor}; crate::http::get()"))
    ['driver', 'http', 'reactor']
    """
    named = set(re.findall(r"\bcrate\s*::\s*([a-z_]\w*)", code))
    for group in re.finditer(r"\bcrate\s*::\s*\{", code):
        named.update(first_names_in_braces(code, group.end()))
    return named


def first_names_in_braces(code: str, start: int) -> Iterator[str]:
    """The first path segment of each entry of a ``use`` list whose brace opened just before ``start``."""
    depth, at_start = 1, True
    for token in re.finditer(r"[{},]|\w+", code[start:]):
        text = token.group()
        if text == "{":
            depth += 1
        elif text == "}":
            depth -= 1
            if depth == 0:
                return
        elif depth == 1 and text == ",":
            at_start = True
        elif depth == 1 and at_start:
            yield text
            at_start = False


def layer_of(path: Path) -> str:
    """The engine's module a file belongs to: its folder, or its own stem for a file at the top."""
    return path.relative_to(ENGINE).parts[0].removesuffix(".rs")


def python_code_lines(function: ast.FunctionDef | ast.AsyncFunctionDef, lines: list[str]) -> int:
    """Lines of a function that hold code: not its docstring, comments or blank lines."""
    body = function.body
    documented = (
        isinstance(body[0], ast.Expr)
        and isinstance(body[0].value, ast.Constant)
        and isinstance(body[0].value.value, str)
    )
    docstring = range(body[0].lineno, (body[0].end_lineno or 0) + 1) if documented else range(0)
    numbered = range(function.lineno, (function.end_lineno or function.lineno) + 1)
    return sum(
        1 for n in numbered if n not in docstring and lines[n - 1].strip() and not lines[n - 1].lstrip().startswith("#")
    )


@each_code_file
def test_file_is_not_too_long(path: Path) -> None:
    lines = len(path.read_text().splitlines())
    most = STUB_LINES_MAX if path.suffix == ".pyi" else FILE_LINES_MAX
    assert lines <= most, f"{name_of(path)} has {lines} lines; at most {most}, so split it by idea"


@each_python_file
def test_functions_are_not_too_long(path: Path) -> None:
    source = path.read_text()
    lines = source.splitlines()
    functions = [
        node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]
    sizes = {f"{name_of(path)}:{each.lineno} {each.name}": python_code_lines(each, lines) for each in functions}
    assert not {where: size for where, size in sizes.items() if size > FUNCTION_LINES_MAX}


@each_code_file
def test_nothing_is_left_to_do(path: Path) -> None:
    if path == Path(__file__).resolve():
        return
    marks = re.compile(r"\b(TODO|FIXME|XXX|HACK)\b|\b(todo|unimplemented)!\s*[(\[{]")
    left = [
        f"{name_of(path)}:{n}: {line.strip()}"
        for n, line in enumerate(path.read_text().splitlines(), 1)
        if marks.search(line)
    ]
    assert not left, "finish it, or file an issue: " + "\n".join(left)


@each_rust_file
def test_unsafe_says_why_it_is_safe(path: Path) -> None:
    """Clippy asks for it on blocks and impls of the configuration it sees; this asks everywhere."""
    lines = path.read_text().splitlines()
    code = rust_code_only(path.read_text()).splitlines()
    silent = []
    for n, line in enumerate(code):
        if not re.search(r"\bunsafe\s*(\{|impl\b|$)", line):
            continue
        statement = n
        # The comment stands above the statement, which may have begun some lines earlier.
        while (
            statement > 0
            and n - statement < 8
            and "SAFETY:" not in lines[statement]
            and not is_comment(lines[statement - 1])
        ):
            statement -= 1
        comment = statement
        while comment > 0 and is_comment(lines[comment - 1]):
            comment -= 1
        if not any("SAFETY:" in text for text in lines[comment : n + 1]):
            silent.append(f"{name_of(path)}:{n + 1}")
    assert not silent, f"no // SAFETY: at {silent}"


def is_comment(line: str) -> bool:
    return line.lstrip().startswith(("//", "#["))


@pytest.mark.parametrize("path", sorted(ENGINE.rglob("*.rs")), ids=name_of)
def test_engine_keeps_its_layers(path: Path) -> None:
    layer = layer_of(path)
    code = rust_code_only(path.read_text())
    modules = {layer_of(each) for each in ENGINE.rglob("*.rs")} - {"lib"}
    named = (layers_named(code) & modules) - {layer}
    if layer in LAYER_MAY_NAME:
        beyond = named - LAYER_MAY_NAME[layer]
        assert not beyond, f"{layer} may name only {LAYER_MAY_NAME[layer] or 'itself'}, yet names {beyond}"
    assert not named & LAYER_MUST_NOT_NAME.get(layer, set())


def test_engine_knows_no_python() -> None:
    manifest = (ROOT / "crates" / "engine" / "Cargo.toml").read_text()
    assert "pyo3" not in manifest
    naming = [
        name_of(path)
        for path in ENGINE.rglob("*.rs")
        if re.search(r"pyo3|\bPy[A-Z]\w*|\bGIL\b", rust_code_only(path.read_text()))
    ]
    assert not naming


def test_raw_python_calls_stay_in_few_modules() -> None:
    """``pyo3::ffi`` is wrapped in one or two modules of the binding crate; all others call the wrappers."""
    native = ROOT / "crates" / "native" / "src"
    raw = {
        path.relative_to(native).parts[0].removesuffix(".rs")
        for path in native.rglob("*.rs")
        if re.search(r"(?<!std::)\bffi\s*::", rust_code_only(path.read_text()))
    }
    assert len(raw) <= 2, raw


def test_system_calls_stay_in_the_driver() -> None:
    """Reading the clock, or the number of the own thread, is no input or output, and may be done anywhere."""
    call = re.compile(r"\b(rustix|libc)\s*::(?!time::|thread::gettid)")
    naming = [
        name_of(path)
        for path in ENGINE.rglob("*.rs")
        if layer_of(path) != "driver" and call.search(rust_code_only(path.read_text()))
    ]
    assert not naming
