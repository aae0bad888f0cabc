"""The benchmark of building a data set, at toy size: it runs, and what it measures is what happened."""

import subprocess
import sys
import time

from benchmarks.build_data import Options, main, resident


def test_a_small_tree_is_built_and_measured(tmp_path, capsys):
    done = main(Options(stories=20, size=32, work=tmp_path))
    assert done.seconds > 0
    assert done.peak > 50e6  # Python with TFDS
    assert done.written > 20 * 5 * 500
    said = " ".join(capsys.readouterr().out.split())
    assert "20 stories in" in said
    assert "15,000 stories would take" in said
    assert sorted(path.name for path in tmp_path.iterdir()) == ["tree_20_32"]


def test_memory_of_processes_that_a_process_starts_counts():
    holder = "held = bytearray(200_000_000); print(1, flush=True); input()"
    starter = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {holder!r}])"
    with subprocess.Popen([sys.executable, "-c", starter], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout
        assert process.stdin
        process.stdout.readline()
        time.sleep(0.05)
        assert 200e6 < resident(process.pid) < 400e6
        process.stdin.write(b"\n")
    assert resident(process.pid) == 0
