"""What the pages say can be done: links lead somewhere, commands parse, snippets call what exists."""

import ast
import builtins
import importlib
import inspect
import re
import shlex
from pathlib import Path
from types import SimpleNamespace

import pytest

import storyjax
from storyjax import cli
from storyjax.data.build import builder_names
from storyjax.parallel.distributed import Peers
from storyjax.parallel.mesh import MeshShape

ROOT = Path(__file__).parents[1]
PAGES = sorted(
    path.relative_to(ROOT).as_posix()
    for pattern in ("*.md", "docs/*.md", "storyjax/systems/*/*.md", "tfds_builders/*/*.md", "launch/*.md")
    for path in ROOT.glob(pattern)
)
FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
NOT_NEEDED = ("diffusers", "torch", "transformers")  # pages may speak of them, the tests run without
FOLDERS = "storyjax|configs|docs|examples|tests|tfds_builders|launch|benchmarks"


def fences(page, *languages):
    return [code for language, code in FENCE.findall((ROOT / page).read_text()) if language in languages]


def shell_lines(page):
    """Commands of a page, in fences for the shell or for nothing in particular; drawings are not ASCII."""
    code = "\n".join(fences(page, "bash", "")).replace("\\\n", " ")
    return [line for line in code.splitlines() if line.isascii()]


def commands(name):
    found = [(page, shlex.split(line, comments=True)) for page in PAGES for line in shell_lines(page)]
    return [pytest.param(words[1:], id=f"{page}: {shlex.join(words)}") for page, words in found if words[:1] == [name]]


SNIPPETS = [
    pytest.param(code, id=f"{page}-{number}") for page in PAGES for number, code in enumerate(fences(page, "python"))
]


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_to_files(page):
    text = FENCE.sub("", (ROOT / page).read_text())
    links = [link for link in re.findall(r"\]\(([^)#\s]+)[^)]*\)", text) if "://" not in link]
    assert not [link for link in links if not (ROOT / page).parent.joinpath(link).exists()]


@pytest.mark.parametrize("page", PAGES)
def test_files_that_are_named_exist(page):
    text = FENCE.sub("", (ROOT / page).read_text())
    named = re.findall(rf"`((?:{FOLDERS})/[\w./-]*)`", text)
    assert not [name for name in named if not (ROOT / name).exists()]


@pytest.mark.parametrize("page", PAGES)
def test_every_number_is_filled_in(page):
    assert not re.findall(r"@@\w+@@", (ROOT / page).read_text())


def test_there_are_commands_and_snippets_to_look_at():
    assert len(commands("storyjax")) > 8
    assert len(commands("make")) >= 2
    assert len(SNIPPETS) > 5


@pytest.mark.parametrize("words", commands("make"))
def test_make_knows_its_targets(words):
    targets = re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert set(words) <= set(targets)


@pytest.mark.parametrize("words", commands("storyjax"))
def test_the_command_takes_its_arguments(words, monkeypatch, capsys):
    called = []

    def load_config(path, changes):
        called.append(real_load_config(ROOT / path, changes))
        return SimpleNamespace(start=lambda workdir, placement: None)

    def generate_story(story, **settings):
        called.append(story)
        assert story is None or story.is_absolute() or (ROOT / story).is_file()
        return {"strip": settings["out"]}

    def generate_image(prompt, **settings):
        called.append(prompt)
        return [settings["out"]]

    def build(name, **_):
        called.append(name)
        assert name in builder_names()

    real_load_config = importlib.import_module("storyjax.config").load_config
    monkeypatch.setattr("storyjax.config.load_config", load_config)
    # The machines and devices of a page are not here; that their text is understood can be seen all the same.
    monkeypatch.setattr("storyjax.parallel.placement.Placement.of", lambda mesh: MeshShape.parse(mesh))
    monkeypatch.setattr(
        "storyjax.parallel.distributed.start", lambda where: where in ("", "auto") or Peers.parse(where)
    )
    monkeypatch.setattr("storyjax.api.generate_story", generate_story)
    monkeypatch.setattr("storyjax.api.generate_image", generate_image)
    for verb in ("weights.conversion.convert", "weights.export.export"):
        monkeypatch.setattr(f"storyjax.{verb}", lambda *args, **_: called.append(args) or SimpleNamespace(text=str))
    monkeypatch.setattr("storyjax.api.evaluate", lambda *args, **_: called.append(args))
    monkeypatch.setattr(
        "storyjax.evals.compare.compare", lambda *args, **_: called.append(args) or SimpleNamespace(print=str)
    )
    monkeypatch.setattr("storyjax.evals.registry.listing", lambda: called.append("listing") or "")
    monkeypatch.setattr("storyjax.data.build.build", build)
    monkeypatch.setattr(
        "storyjax.data.bench.bench", lambda *args, **_: called.append(args) or SimpleNamespace(table=str)
    )
    whole = SimpleNamespace(text=str, whole=True)
    monkeypatch.setattr("storyjax.data.check.check", lambda folder, *_, **__: called.append(folder) or whole)
    monkeypatch.setattr("storyjax.launch.start.launch", lambda *_, **__: None)  # the configuration was called
    cli.main(words)
    assert len(called) == 1


def names_known(tree):
    """What the imports of a snippet bind, resolved; a missing name is an AttributeError or ImportError."""
    known = {"storyjax": storyjax}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                module = importlib.import_module(alias.name)
                known[alias.asname or alias.name.split(".")[0]] = (
                    module if alias.asname else importlib.import_module(alias.name.split(".")[0])
                )
        elif isinstance(node, ast.ImportFrom) and node.module.split(".")[0] not in NOT_NEEDED:
            module = importlib.import_module(node.module)
            known |= {alias.asname or alias.name: getattr(module, alias.name) for alias in node.names}
    if "storyjax.load(" in ast.unparse(tree) or re.search(r"\bpipeline\(", ast.unparse(tree)):
        known["pipeline"] = importlib.import_module("storyjax.systems.contextual_story.pipeline").Pipeline.__call__
    if re.search(r"\bsd\(", ast.unparse(tree)):  # by which name pages call a Stable Diffusion pipeline
        known["sd"] = importlib.import_module("storyjax.systems.stable_diffusion.pipeline").Pipeline.__call__
    return known


def resolve(expression, known):
    """The object that a dotted name of a snippet stands for, or None where it starts with a variable of the snippet."""
    first, *rest = ast.unparse(expression).split(".")
    found = known.get(first)
    for name in rest if found is not None else ():
        if inspect.ismodule(found) and not hasattr(found, name):
            importlib.import_module(f"{found.__name__}.{name}")
        found = getattr(found, name)
    return found


@pytest.mark.parametrize("code", SNIPPETS)
def test_a_snippet_calls_what_exists(code):
    tree = ast.parse(code)
    known = names_known(tree)
    for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
        if not re.fullmatch(r"[\w.]+", ast.unparse(call.func)):
            continue
        function = resolve(call.func, known)
        if function is None or function in vars(builtins).values():
            continue
        parameters = inspect.signature(function).parameters
        if not any(parameter.kind == parameter.VAR_KEYWORD for parameter in parameters.values()):
            given = {keyword.arg for keyword in call.keywords if keyword.arg}
            assert given <= set(parameters), f"{ast.unparse(call)}: {function} takes {list(parameters)}"
