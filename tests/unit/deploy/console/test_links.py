from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

from deploy.console import links


def test_one_that_was_made_signs_in_once(tmp_path: Path) -> None:
    token = links.make(tmp_path)
    assert links.use(tmp_path, token)
    assert not links.use(tmp_path, token)


def test_the_file_is_private_and_has_no_token(tmp_path: Path) -> None:
    token = links.make(tmp_path)
    file = tmp_path / links.FILE
    assert file.stat().st_mode & 0o777 == 0o600
    assert token not in file.read_text()


def test_of_many_who_use_one_at_once_one_gets_in(tmp_path: Path) -> None:
    token, got = links.make(tmp_path), list[bool]()
    together = threading.Barrier(8)

    def enter() -> None:
        together.wait()
        got.append(links.use(tmp_path, token))

    threads = [threading.Thread(target=enter) for _ in range(8)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert sorted(got) == [False] * 7 + [True]


def test_a_damaged_file_lets_nobody_in_and_is_made_anew(tmp_path: Path) -> None:
    (tmp_path / links.FILE).write_text('{"a": "b"')
    assert not links.use(tmp_path, "x" * 22)
    assert links.use(tmp_path, links.make(tmp_path))


def test_without_links_nothing_is_written(tmp_path: Path) -> None:
    assert not links.use(tmp_path, "x" * 22)
    assert list(tmp_path.iterdir()) == []


def test_the_address_is_there_while_the_console_listens(tmp_path: Path) -> None:
    with links.told(tmp_path, "https://console.example", "http://127.0.0.1:8480"):
        found = links.address(tmp_path)
        assert found == ("https://console.example", "http://127.0.0.1:8480")
    assert links.address(tmp_path) is None


def test_the_address_of_one_that_was_killed_counts_for_nothing(tmp_path: Path) -> None:
    """Another program may listen there by now, and would get a link that signs in."""
    code = (
        "import sys; from pathlib import Path; from deploy.console import links\n"
        "with links.told(Path(sys.argv[1]), 'http://127.0.0.1:8480', 'http://127.0.0.1:8480'):\n"
        "    print(flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, tmp_path], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as console:
        assert console.stdout is not None
        console.stdout.readline()
        assert links.address(tmp_path) == ("http://127.0.0.1:8480", "http://127.0.0.1:8480")
        console.kill()
        console.wait()
    assert (tmp_path / links.ADDRESS).exists()
    assert links.address(tmp_path) is None
