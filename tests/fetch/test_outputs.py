"""The forms that results take: Parquet, a folder; whatever a kill leaves, every row is in them once."""

from __future__ import annotations

import hashlib
import json
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from aioxide.__main__ import main
from aioxide._native import HttpServer


@pytest.fixture
def server() -> Iterator[HttpServer]:
    with HttpServer() as server:
        yield server


def table(path: Path) -> list[dict[str, Any]]:
    parquet = pytest.importorskip("pyarrow.parquet")
    rows: list[dict[str, Any]] = parquet.read_table(path).to_pylist()
    return rows


def test_parquet(server: HttpServer, tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    output = tmp_path / "out.parquet"
    command = ["fetch", f"{server.url}/{{1..20}}", f"{server.url}/close", "--retries", "0", "-o", str(output)]
    assert main(command) == 1
    rows = sorted(table(output), key=lambda row: row["row"])
    assert [row["row"] for row in rows] == list(range(21))
    assert [row["body"] for row in rows[:20]] == [f"/{n}".encode() for n in range(1, 21)]
    assert all(row["status"] == 200 and row["bytes"] == len(row["body"]) and row["seconds"] > 0 for row in rows[:20])
    assert dict(rows[0]["headers"])["content-length"] == "2"
    assert (rows[20]["status"], rows[20]["error_type"]) == (None, "RemoteProtocolError")
    # The batches are in the file, and nowhere else; the same run finds that all is done.
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.parquet", "out.parquet.journal"]
    assert main(command) == 0
    assert len(table(output)) == 21


def test_parquet_with_bodies_by_hash(server: HttpServer, tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    output = tmp_path / "out.parquet"
    assert main(["fetch", f"{server.url}/a", "-o", str(output), "--bodies", "hash"]) == 0
    (row,) = table(output)
    assert row["body"] is None
    assert (tmp_path / "out.parquet.bodies" / row["sha256"][:2] / row["sha256"]).read_bytes() == b"/a"


def test_parquet_without_pyarrow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    assert main(["fetch", "http://127.0.0.1/", "-o", str(tmp_path / "out.parquet")]) == 2
    assert "need pyarrow: pip install 'aioxide[parquet]'" in capsys.readouterr().err


def test_a_folder_has_a_file_for_each_row(server: HttpServer, tmp_path: Path) -> None:
    folder = tmp_path / "pages"
    assert main(["fetch", f"{server.url}/{{1..3}}", f"{server.url}/echo", "-o", f"{folder}/"]) == 0
    found = {line["row"]: line for line in map(json.loads, (folder / "index.jsonl").read_text().splitlines())}
    assert {row: line["file"] for row, line in found.items()} == {
        0: "000000/000000000.txt",
        1: "000000/000000001.txt",
        2: "000000/000000002.txt",
        3: "000000/000000003.json",
    }
    assert [(folder / found[row]["file"]).read_bytes() for row in range(3)] == [b"/1", b"/2", b"/3"]
    assert json.loads((folder / found[3]["file"]).read_text())["path"] == "/echo"
    assert "body" not in found[0]


def test_a_folder_with_bodies_by_hash(server: HttpServer, tmp_path: Path) -> None:
    folder = tmp_path / "pages"
    folder.mkdir()
    assert main(["fetch", f"{server.url}/a", f"{server.url}/a", "-o", str(folder), "--bodies", "hash"]) == 0
    digest = hashlib.sha256(b"/a").hexdigest()
    assert {json.loads(line)["sha256"] for line in (folder / "index.jsonl").read_text().splitlines()} == {digest}
    assert (folder / digest[:2] / digest).read_bytes() == b"/a"


@pytest.mark.parametrize("name", ["out.parquet", "out/"])
@pytest.mark.parametrize("stop", [signal.SIGKILL, signal.SIGINT])
def test_an_interrupted_run_goes_on(server: HttpServer, tmp_path: Path, name: str, stop: signal.Signals) -> None:
    if name.endswith("parquet"):
        pytest.importorskip("pyarrow")
    seed = random.randrange(1 << 32)
    print("seed", seed)
    random.seed(seed)
    count = 6_000
    output = tmp_path / name
    command = [sys.executable, "-m", "aioxide", "fetch", f"{server.url}/{{1..{count}}}", "-o", f"{tmp_path}/{name}"]
    for _ in range(3):
        child = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        time.sleep(random.uniform(0.3, 1.5))
        child.send_signal(stop)
        child.wait(timeout=60)
    # As a kill in the middle of a batch leaves it.
    if name.endswith("parquet"):
        output.with_name("out.parquet.parts").mkdir(exist_ok=True)
        output.with_name("out.parquet.parts").joinpath("000000999.parquet.partial").write_bytes(b"PAR1")
    done = subprocess.run(command, stderr=subprocess.PIPE, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    if name.endswith("parquet"):
        bodies = [(row["row"], row["body"]) for row in table(output)]
    else:
        lines = map(json.loads, (output / "index.jsonl").read_text().splitlines())
        bodies = [(line["row"], (output / line["file"]).read_bytes()) for line in lines]
    assert Counter(bodies) == Counter((row, f"/{row + 1}".encode()) for row in range(count))


def test_a_kill_before_the_batches_are_removed_doubles_nothing(server: HttpServer, tmp_path: Path) -> None:
    """The file was renamed into place, and then the power went: its batches are still there."""
    pytest.importorskip("pyarrow")
    from aioxide.fetch._parquet import Parquet

    output = tmp_path / "out.parquet"
    sink = Parquet(output, 0)
    sink.add({"row": 0, "url": "http://host/", "seconds": 0.5})
    assert sink.write() == 1
    part = tmp_path / "out.parquet.parts" / "000000000.parquet"
    batch = part.read_bytes()
    sink.close()
    part.parent.mkdir()
    part.write_bytes(batch)
    again = Parquet(output, 1)
    again.add({"row": 1, "url": "http://host/", "seconds": 0.5})
    assert again.write() == 2
    again.close()
    assert [row["row"] for row in table(output)] == [0, 1]


def test_a_batch_that_cannot_be_written_is_not_committed(server: HttpServer, tmp_path: Path) -> None:
    """The disk is full (the file may not grow), and later it is not."""
    output = tmp_path / "out.jsonl"
    command = [sys.executable, "-m", "aioxide", "fetch", f"{server.url}/{{1..2000}}", "-o", str(output)]
    limited = ["sh", "-c", 'ulimit -f 300; trap "" XFSZ; exec "$@"', "sh", *command]
    done = subprocess.run(limited, stderr=subprocess.PIPE, text=True, timeout=60)
    assert done.returncode == 2, done.stderr
    assert "File too large" in done.stderr
    assert subprocess.run(command, stderr=subprocess.DEVNULL, timeout=60).returncode == 0
    rows = [json.loads(line)["row"] for line in output.read_text().splitlines()]
    assert Counter(rows) == Counter(range(2000))
