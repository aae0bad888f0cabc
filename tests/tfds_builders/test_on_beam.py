"""Builds on Apache Beam: the stories of the plain build, in its order, and the same words about what is wrong.

Most of it runs where apache_beam is installed: `make beam` runs it.
"""

import importlib
import importlib.util
import json

import pytest
import tensorflow_datasets as tfds
from tensorflow_datasets.proto import tf_example_pb2

from storyjax.data.build import build, builder_class, builder_names
from storyjax.data.records import RecordSource
from storyjax.errors import StoryjaxError
from tests.tfds_builders import tiny_manual
from tests.tfds_builders.tiny_manual import TinyManual
from tfds_builders.layout import BrokenStory, LayoutError
from tfds_builders.manual import LEFT_OUT

HAS_BEAM = importlib.util.find_spec("apache_beam") is not None
on_beam = pytest.mark.skipif(not HAS_BEAM, reason="apache_beam is not installed (make beam)")
IN_ONE_PROCESS = ("direct_running_mode=in_memory", "direct_num_workers=1")
IN_TWO = ("direct_running_mode=multi_processing", "direct_num_workers=2")


@pytest.fixture
def tree(tmp_path):
    return tiny_manual.write_tree(tmp_path / "tree")


def built(tree, data_dir, *options, runner=None, shards=None, **arguments):
    """The builder after a build of the tiny data set, on Beam where a runner is named."""
    asked = {}
    if runner:
        from storyjax.data.beam import download_options

        asked = download_options(runner, options)
    builder = TinyManual(data_dir=str(data_dir), **arguments)
    builder.download_and_prepare(
        download_config=tfds.download.DownloadConfig(manual_dir=str(tree), **asked, num_shards=shards)
    )
    return builder


def records(builder, split):
    """The records of a split as messages: their bytes have fields in the order of the process that wrote them."""
    source = builder.as_data_source(split, deserialize_method=tfds.decode.DeserializeMethod.RAW_BYTES)
    return [tf_example_pb2.Example.FromString(source[index]) for index in range(len(source))]


@on_beam
@pytest.mark.parametrize("options", [IN_ONE_PROCESS, IN_TWO])
def test_the_records_and_their_order_are_those_of_the_plain_build(tree, tmp_path, options):
    plain = built(tree, tmp_path / "plain")
    beam = built(tree, tmp_path / "beam", *options, runner="direct", shards=3)
    for split, count in tiny_manual.STORIES.items():
        assert len(records(plain, split)) == count
        assert records(beam, split) == records(plain, split)
    assert beam.info.splits["train"].num_shards == 3
    assert beam.counted == {"train.stories": 30, "test.stories": 5}
    assert not list(beam.data_path.glob("*.note.json"))
    ours, theirs = (RecordSource(builder.data_path, "train") for builder in (plain, beam))
    assert ours.fingerprint() == theirs.fingerprint()
    assert ours.table.ids == theirs.table.ids


@on_beam
def test_broken_stories_are_counted_and_listed_in_order(tree, tmp_path, capsys):
    for story in ("0021", "0007"):
        (tree / "train" / story / "1.png").write_bytes(b"no picture")
    (tree / "train" / "0003" / "2.png").write_bytes(tiny_manual.png(40))
    plain = built(tree, tmp_path / "plain", skip_broken=True)
    said = [line for line in capsys.readouterr().out.splitlines() if "tiny_manual: " in line or "split " in line]
    beam = built(tree, tmp_path / "beam", *IN_ONE_PROCESS, runner="direct", skip_broken=True)
    assert [line for line in capsys.readouterr().out.splitlines() if line in said] == said
    assert said[0] == "tiny_manual: 2 stories left out:"
    assert said[-1].startswith("tiny_manual: pictures of 2 sizes: 24x24 (98), 40x40 (1);")
    assert beam.counted == {"train.stories": 28, "train.broken": 2, "test.stories": 5}
    assert beam.broken == plain.broken
    assert len(beam.broken) == 2
    assert (beam.data_path / LEFT_OUT).read_text() == (plain.data_path / LEFT_OUT).read_text()
    assert records(beam, "train") == records(plain, "train")


@on_beam
@pytest.mark.parametrize("options", [IN_ONE_PROCESS, IN_TWO])
def test_a_broken_story_ends_the_build_by_name(tree, tmp_path, options):
    (tree / "test" / "0002" / "1.png").write_bytes(b"no picture")
    with pytest.raises(
        BrokenStory, match=r"test/0002/1\.png' is no picture; mend it, or leave such stories out with --skip"
    ):
        built(tree, tmp_path, *options, runner="direct")
    assert not list(tmp_path.rglob("dataset_info.json"))


@on_beam
def test_a_split_without_a_story_that_can_be_built_is_named(tree, tmp_path):
    for path in (tree / "test").rglob("*.png"):
        path.write_bytes(b"no picture")
    with pytest.raises(LayoutError, match="none of the stories of split test can be built"):
        built(tree, tmp_path, *IN_ONE_PROCESS, runner="direct", skip_broken=True)


@on_beam
def test_the_command_builds_what_is_drawn_by_code(tmp_path):
    from storyjax.cli import main

    words = ["--config", "tiny", "--runner", "direct", "--beam-option", *IN_ONE_PROCESS]
    main(["data", "build", "cartoon_stories", "--data-dir", str(tmp_path / "beam"), *words])
    (folder,) = (tmp_path / "beam").rglob("dataset_info.json")
    beam = RecordSource(folder.parent, "train")
    plain = RecordSource(build("cartoon_stories", tmp_path / "plain", config="tiny"), "train")
    assert beam.fingerprint() == plain.fingerprint()


def configs():
    """The first and the last configuration of every builder that has a fake tree."""
    from tfds_builders.manual import ManualBuilder

    for name in builder_names():
        if importlib.util.find_spec(f"tfds_builders.{name}.dummy") and issubclass(builder_class(name), ManualBuilder):
            known = [config.name for config in builder_class(name).BUILDER_CONFIGS]
            yield from ((name, config) for config in dict.fromkeys((known[0], known[-1])))


@on_beam
@pytest.mark.parametrize(("name", "config"), list(configs()) if HAS_BEAM else [("none", "none")])
def test_published_data_sets_are_the_same_on_beam(name, config, tmp_path):
    tree = tmp_path / "tree"
    importlib.import_module(f"tfds_builders.{name}.dummy").write_tree(tree)
    recognises = builder_class(name).LAYOUT.recognises
    asked = {"config": config, "manual_dir": next(path for path in (tree, *tree.iterdir()) if recognises(path))}
    plain = tfds.builder_from_directory(build(name, tmp_path / "plain", **asked))
    beam = tfds.builder_from_directory(build(name, tmp_path / "beam", **asked, runner="direct"))
    assert beam.info.metadata == plain.info.metadata
    for split in plain.info.splits:
        assert records(beam, split) == records(plain, split)


@on_beam
def test_options_of_clusters_are_beams_own_and_are_passed_through():
    from storyjax.data.beam import download_options

    flink = download_options("flink", ("flink_master=host:8081", "parallelism=64", "flink_submit_uber_jar"))
    assert flink["beam_runner"] == "FlinkRunner"
    read = flink["beam_options"].get_all_options()
    assert (read["flink_master"], read["parallelism"], read["flink_submit_uber_jar"]) == ("host:8081", 64, True)
    place = ("project=my-project", "region=europe-west4", "temp_location=gs://my-bucket/temp")
    dataflow = download_options("dataflow", (*place, "--max_num_workers=20"))["beam_options"].get_all_options()
    assert (dataflow["project"], dataflow["max_num_workers"]) == ("my-project", 20)
    several = download_options("flink", ("experiments=one", "experiments=two"))["beam_options"].get_all_options()
    assert several["experiments"] == ["one", "two"]
    direct = download_options("direct", (), processes=3)["beam_options"].get_all_options()
    assert (direct["direct_num_workers"], direct["direct_running_mode"]) == (3, "multi_processing")


@on_beam
@pytest.mark.parametrize(
    ("runner", "options", "said"),
    [
        ("flink", ["paralelism=4"], "Apache Beam has no option 'paralelism'; did you mean 'parallelism'"),
        ("flink", ["parallelism=many"], "cannot read its options: argument --parallelism: invalid int value: 'many'"),
        ("dataflow", ["project=my-project"], "dataflow does not run with these options: .*temp_location.*region"),
        ("flink", ["=4"], "a Beam option is key=value, such as direct_num_workers=4, got '=4'"),
    ],
)
def test_wrong_options_are_told_before_anything_is_read(runner, options, said, tmp_path):
    with pytest.raises(StoryjaxError, match=said):
        build("cartoon_stories", tmp_path, config="tiny", runner=runner, beam_options=options)


@on_beam
def test_processes_are_those_of_this_machine(tmp_path):
    with pytest.raises(StoryjaxError, match=r"processes are those of this machine; for flink .* parallelism=4"):
        build("cartoon_stories", tmp_path, runner="flink", processes=4)


def test_a_runner_is_a_known_one_and_options_need_one(tmp_path):
    with pytest.raises(StoryjaxError, match="runner must be one of direct, dataflow, flink, got 'spark'"):
        build("cartoon_stories", tmp_path, runner="spark")
    with pytest.raises(StoryjaxError, match="Beam options need a runner; add --runner"):
        build("cartoon_stories", tmp_path, beam_options=["parallelism=4"])


@pytest.mark.parametrize("folder", ["gs://bucket/data", "hdfs://host/data"])
def test_a_build_on_beam_writes_to_a_folder(folder):
    with pytest.raises(StoryjaxError, match="expected a folder that every worker sees"):
        build("cartoon_stories", folder, runner="flink")


@pytest.mark.skipif(HAS_BEAM, reason="apache_beam is installed")
def test_without_beam_the_error_says_how_to_get_it(tmp_path):
    with pytest.raises(
        StoryjaxError, match=r"needs Apache Beam, which is not installed here: `make beam` makes \.venv-beam"
    ):
        build("cartoon_stories", tmp_path, config="tiny", runner="direct")
    assert not list(tmp_path.iterdir())


def test_plain_builds_are_the_same_files_byte_for_byte(tree, tmp_path):
    """Also from another process: the order of a record's fields is not that of the process that wrote it."""
    import subprocess
    import sys

    here = built(tree, tmp_path / "here").data_path
    program = (
        "import tensorflow_datasets as tfds; from tests.tfds_builders.tiny_manual import TinyManual;"
        f"TinyManual(data_dir={str(tmp_path / 'there')!r}).download_and_prepare("
        f"download_config=tfds.download.DownloadConfig(manual_dir={str(tree)!r}))"
    )
    subprocess.run([sys.executable, "-c", program], check=True, capture_output=True)
    there = tmp_path / "there" / here.relative_to(tmp_path / "here")
    names = sorted(path.name for path in here.iterdir())
    assert len(names) == 4
    for name in names:
        if name == "dataset_info.json":
            assert json.loads((there / name).read_text())["splits"] == json.loads((here / name).read_text())["splits"]
        else:
            assert (there / name).read_bytes() == (here / name).read_bytes()
