"""What holds for every builder that reads the user's files: its dummy tree is recognised, and processes read what one reads."""

import importlib
from pathlib import Path

import pytest

import tfds_builders
from storyjax.data.build import builder_class, builder_names
from storyjax.data.check import layout_class, recognise
from tfds_builders.clevr_sv.layout import DrawnLayout
from tfds_builders.reading import ReadStories, in_order

HERE = Path(tfds_builders.__file__).parent
TREES = {name: [HERE / name / "dummy_data"] for name in builder_names() if (HERE / name / "dummy_data").is_dir()}
TREES["image_folder_story"] = sorted((HERE / "image_folder_story/dummy_data").iterdir())
CASES = [(name, tree) for name, trees in sorted(TREES.items()) for tree in trees]


@pytest.mark.parametrize(("name", "tree"), CASES, ids=lambda value: getattr(value, "name", value))
def test_a_tree_is_recognised_as_what_it_is_and_as_nothing_else(name, tree):
    assert recognise(tree) == name


@pytest.mark.parametrize("name", sorted(TREES))
def test_a_builder_has_what_a_tfds_user_looks_for(name):
    folder = HERE / name
    wanted = [f"{name}_dataset_builder.py", f"{name}_dataset_builder_test.py", "README.md", "CITATIONS.bib", "TAGS.txt"]
    assert [file for file in wanted if not (folder / file).is_file()] == []
    assert builder_class(name).name == name
    assert "checksums" in (folder / "README.md").read_text() or (folder / "checksums.tsv").is_file()
    assert callable(importlib.import_module(f"tfds_builders.{name}.dummy").write_tree)


@pytest.mark.parametrize("name", ["clevr_sv", "image_folder_story", "storysalon"])
def test_several_processes_read_what_one_reads(name):
    layout = layout_class(name)(TREES[name][0], builder_class(name).BUILDER_CONFIGS[0].name)
    keys = [[key] for keys in layout.splits().values() for key in keys]
    assert _plain(in_order(ReadStories(layout), keys, 2)) == _plain(in_order(ReadStories(layout), keys, 1))


def test_several_processes_draw_what_one_draws():
    layout = DrawnLayout({"train": (0, 2)}, seed=3)
    assert _plain(in_order(ReadStories(layout), [[0], [1]], 2)) == _plain(map(ReadStories(layout), [[0], [1]]))


def _plain(made) -> str:
    return repr([story for stories in made for story in stories])
