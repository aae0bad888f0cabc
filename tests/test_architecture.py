"""The shape of the house (docs/architecture.md): which room may import which, and what may exist only once."""

import ast
import functools
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "storyjax"
SOURCES = sorted(PACKAGE.rglob("*.py"))

# Imports go down this list only. The first three lie under everything; `cli` and `api` lie on top.
ROOMS_BOTTOM_UP = [
    "base",
    "parallel",
    "kernels",
    "nn",
    "models",
    "diffusion",
    "checkpoints",
    "weights",
    "data",
    "evals",
    "train",
    "story",
    "systems",
    "launch",
    "studio",
    "api",
    "cli",
]
BASE = {"", "__version__", "errors", "config", "version"}


def room(module: str) -> str | None:
    """The room of `storyjax.x.y`, each system being a room of its own; None for other packages."""
    parts = module.split(".")
    if parts[0] != "storyjax":
        return None
    name = parts[1] if len(parts) > 1 else ""
    if name == "systems" and len(parts) > 2:
        return f"systems.{parts[2]}"
    return "base" if name in BASE else name


def height(name: str) -> int:
    """Place in the order; names that are no rooms, such as `from storyjax import load`, count as the top."""
    first = name.split(".")[0]
    return ROOMS_BOTTOM_UP.index(first) if first in ROOMS_BOTTOM_UP else len(ROOMS_BOTTOM_UP)


def module_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@functools.cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(), str(path))


def imports(path: Path, tree: ast.AST) -> Iterator[tuple[int, str]]:
    """(line, module) of every import in `tree`, also inside functions and by `import_module` of a literal name."""
    package = module_of(path) if path.name == "__init__.py" else module_of(path).rpartition(".")[0]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            origin = ".".join([*above, *([node.module] if node.module else [])])
            yield from ((node.lineno, f"{origin}.{alias.name}") for alias in node.names)
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module") and node.args:
            name = node.args[0]
            name = name.values[0] if isinstance(name, ast.JoinedStr) else name
            if isinstance(name, ast.Constant):
                # of f"storyjax.systems.{name}.pipeline" the literal part counts; an open end tells nothing
                yield node.lineno, str(name.value).rstrip(".")


def forbidden(importer: str, imported: str) -> bool:
    """Whether an arrow between two different rooms runs up or sideways."""
    return importer != imported and height(imported) >= height(importer)


@pytest.mark.parametrize(
    ("importer", "imported", "wrong"),
    [
        ("storyjax.models.unet", "storyjax.nn.blocks", False),
        ("storyjax.nn.blocks", "storyjax.models.unet", True),
        ("storyjax.systems.one.model", "storyjax.systems.two.model", True),
        ("storyjax.systems.one.model", "storyjax.systems.one.config", False),
        ("storyjax.config", "storyjax.errors", False),
        ("storyjax.config", "storyjax.nn.build", True),
        ("storyjax.api", "storyjax.cli", True),
        ("storyjax.train.loop", "storyjax.load", True),
        ("storyjax.story.manifest", "storyjax.__version__", False),
    ],
)
def test_an_arrow_up_or_sideways_is_recognised(importer, imported, wrong):
    assert forbidden(room(importer), room(imported)) is wrong


def test_imports_are_found_wherever_they_stand():
    code = """
import a.b
def inside():
    from . import c
    from ..nn.build import bind
    importlib.import_module(f"storyjax.systems.{name}.pipeline")
"""
    found = [name for _, name in imports(PACKAGE / "train" / "loop.py", ast.parse(code))]
    assert found == ["a.b", "storyjax.train.c", "storyjax.nn.build.bind", "storyjax.systems"]


def test_every_room_has_its_place_in_the_order():
    unknown = {
        str(path.relative_to(ROOT)) for path in SOURCES if room(module_of(path)).split(".")[0] not in ROOMS_BOTTOM_UP
    }
    assert not unknown, f"rooms that ROOMS_BOTTOM_UP does not know: {sorted(unknown)}"


def test_imports_only_go_down():
    wrong = [
        f"{path.relative_to(ROOT)}:{line} imports {name}"
        for path in SOURCES
        for line, name in imports(path, parsed(path))
        if room(name) and forbidden(room(module_of(path)), room(name))
    ]
    assert not wrong, "arrows that run up or sideways:\n" + "\n".join(wrong)


def test_no_other_framework_is_imported_when_storyjax_is():
    """PyTorch and TensorFlow are extras: only inside a function, where their absence is told or does no harm."""

    def at_import(tree: ast.AST) -> Iterator[ast.AST]:
        for node in ast.iter_child_nodes(tree):
            if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
                yield node
                yield from at_import(node)

    wrong = [
        f"{path.relative_to(ROOT)}:{node.lineno} imports {name}"
        for path in SOURCES
        for node in at_import(parsed(path))
        if isinstance(node, ast.Import | ast.ImportFrom)
        for _, name in imports(path, node)
        if name.split(".")[0] in ("torch", "tensorflow", "keras")
    ]
    assert not wrong, "\n".join(wrong)


def test_no_file_is_longer_than_a_room():
    files = [
        p
        for folder in ("storyjax", "tests", "configs", "tfds_builders", "launch", "benchmarks")
        for p in (ROOT / folder).rglob("*.py")
    ]
    lines = {str(path.relative_to(ROOT)): len(path.read_text().splitlines()) for path in files}
    assert not {name: count for name, count in lines.items() if count > 500}


def calls(path: Path) -> set[str]:
    """Last names of everything that is called in a file."""
    functions = (node.func for node in ast.walk(parsed(path)) if isinstance(node, ast.Call))
    return {ast.unparse(function).rpartition(".")[2] for function in functions}


@pytest.mark.parametrize(
    ("names", "only_in"),
    [
        ({"grad", "value_and_grad", "vjp", "jvp"}, "train/step.py"),  # one place takes gradients,
        ({"apply_updates", "Optimizer", "ModelAndOptimizer"}, "train/step.py"),  # one place applies them,
        ({"make_step", "compile_step"}, "train/loop.py"),  # and one loop repeats it
    ],
)
def test_there_is_one_training_loop(names, only_in):
    assert [path.relative_to(PACKAGE).as_posix() for path in SOURCES if names & calls(path)] == [only_in]
