"""The parity command around the comparison itself, without PyTorch: results that stay, the table, the page it is written into."""

import dataclasses
from pathlib import Path

import pytest

from benchmarks.parity import __main__ as command
from benchmarks.parity import table as tables
from benchmarks.parity.cases import CASES
from storyjax.errors import StoryjaxError
from tests.disk import no_file_grows_past

FIRST, SECOND = CASES[0], CASES[1]


def result(error: float = 2e-6) -> tables.Result:
    def told(error: float) -> dict:
        return {
            "errors": {"sample": error, "other": error / 2},
            "load_seconds": 1.25,
            "run_seconds": 2.5,
            "bytes_loaded": 3 * 2**29,
            "peak_bytes": 2**31,
            "device": "cpu, of a test, 2 cores",
            "versions": {"jax": "0.0"},
        }

    torch = {"parameters": 1_234_560_000, "run_seconds": 7.75, "versions": {"torch": "9.9"}}
    return tables.Result(torch, {"float32": told(error), "bfloat16": told(100 * error)}, 2**30)


@pytest.fixture
def compared(monkeypatch):
    """Comparing is replaced by writing a made-up result; what was compared is noted."""
    names = []

    def compare(case, folder, full):
        names.append(case.name)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{case.name}.json").write_text(result().as_json())

    monkeypatch.setattr(command, "compare", compare)
    return names


def options(tmp_path, **given) -> command.Options:
    return command.Options(work=tmp_path / "work", component=(FIRST.name,), **given)


def test_a_row_says_what_was_measured():
    row = next(
        line for line in tables.table({FIRST.name: result()}).splitlines() if line.startswith(f"| {FIRST.title}")
    )
    assert [cell.strip() for cell in row.strip("|").split("|")] == [
        FIRST.title, "1,234.6", "2.0e-06", "2.0e-04", "1.00", "1.2", "2.5", "7.8", "1.50", "2.00",
    ]  # fmt: skip


def test_networks_without_a_result_are_named_and_have_no_row():
    text = tables.table({FIRST.name: result()})
    assert f"| {SECOND.title}" not in text
    assert SECOND.title in text.rpartition("Not measured yet: ")[2]
    assert "Measured on cpu, of a test, 2 cores, with jax 0.0, torch 9.9." in text


def test_a_stopped_run_goes_on(tmp_path, compared):
    assert command.main(options(tmp_path)) == 0
    assert command.main(dataclasses.replace(options(tmp_path), component=(FIRST.name, SECOND.name))) == 0
    assert compared == [FIRST.name, SECOND.name]
    command.main(options(tmp_path, again=True))
    assert compared == [FIRST.name, SECOND.name, FIRST.name]


def test_tiny_and_released_results_are_kept_apart(tmp_path, compared):
    command.main(options(tmp_path))
    command.main(options(tmp_path, full=True))
    assert compared == [FIRST.name, FIRST.name]


def test_the_page_keeps_everything_but_its_region(tmp_path, compared):
    page = tmp_path / "page.md"
    page.write_text(f"before\n{tables.BEGIN}\nold\n{tables.END}\nafter\n")
    assert command.main(options(tmp_path, full=True, write=page)) == 0
    before, _, rest = page.read_text().partition(tables.BEGIN)
    content, _, after = rest.partition(tables.END)
    assert (before, after) == ("before\n", "\nafter\n")
    assert FIRST.title in content
    assert "old" not in content


def test_a_page_states_released_sizes_only(tmp_path, compared):
    with pytest.raises(StoryjaxError, match="add --full"):
        command.main(options(tmp_path, write=tmp_path / "page.md"))
    assert not compared


def test_a_page_without_a_place_is_refused_before_hours_of_work(tmp_path, compared):
    page = tmp_path / "page.md"
    page.write_text("no marks")
    with pytest.raises(StoryjaxError, match="no place for the table"):
        command.main(options(tmp_path, full=True, write=page))
    assert page.read_text() == "no marks"
    assert not compared


def test_an_unknown_component_is_refused(tmp_path):
    with pytest.raises(StoryjaxError, match=r"no component 'unet-sdlx'.*unet-sdxl"):
        command.main(command.Options(component=("unet-sdlx",), work=tmp_path))


@pytest.mark.parametrize("error", [1.5e-4, float("nan")])
def test_an_error_above_its_bound_is_the_status(tmp_path, monkeypatch, error, capsys):
    def compare(case, folder, full):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{case.name}.json").write_text(result(error).as_json())

    monkeypatch.setattr(command, "compare", compare)
    assert command.main(options(tmp_path)) == 1
    assert f"{FIRST.title}: sample in float32 is" in capsys.readouterr().out


def test_a_side_that_fails_leaves_no_result(tmp_path, monkeypatch):
    def fails(module, *arguments):
        raise StoryjaxError("torch_side ended with status 1")

    monkeypatch.setattr(command, "_side", fails)
    with pytest.raises(StoryjaxError, match="status 1"):
        command.main(options(tmp_path))
    assert not list((tmp_path / "work").rglob("*.json"))


def test_a_result_is_whole_or_not_there(tmp_path, monkeypatch):
    def sides(module, name, passing, *arguments):
        folder = Path(passing)
        folder.mkdir(parents=True, exist_ok=True)
        for file in ("torch.json", *(f"jax_{dtype}.json" for dtype in tables.DTYPES)):
            (folder / file).write_text('{"parameters": 3}')

    monkeypatch.setattr(command, "_side", sides)
    with no_file_grows_past(30), pytest.raises(StoryjaxError, match="the disk is full"):
        command.compare(FIRST, tmp_path, full=False)
    assert not list(tmp_path.iterdir())
    command.compare(FIRST, tmp_path, full=False)
    assert [path.name for path in tmp_path.iterdir()] == [f"{FIRST.name}.json"]


def test_the_page_of_this_repository_has_a_place_for_the_table(tmp_path):
    page = tmp_path / "weights.md"
    text = (command.Path(__file__).parents[2] / "docs" / "weights.md").read_text(encoding="utf-8")
    page.write_text(text)
    tables.write_into(page, "new content")
    assert "new content" in page.read_text(encoding="utf-8")
