"""What becomes of threads when the chapter that started them fails."""

from __future__ import annotations

import signal
import threading
import time

import pytest

from aioxide.history._failures import raising_of_threads


def test_threads_are_waited_for_even_when_their_join_is_interrupted(capfd: pytest.CaptureFixture[str]) -> None:
    ended: list[bool] = []

    def job() -> None:
        time.sleep(0.3)
        ended.append(True)
        raise OSError("too late to be told")

    with pytest.raises(KeyboardInterrupt), raising_of_threads():
        thread = threading.Thread(target=job)
        thread.start()
        main = threading.get_ident()
        threading.Timer(0.05, signal.pthread_kill, (main, signal.SIGINT)).start()
        thread.join()
    assert ended == [True]
    assert capfd.readouterr().err == ""


def test_what_a_thread_raises_is_raised_at_the_end() -> None:
    def job() -> None:
        raise OSError("told")

    with pytest.raises(OSError, match="told"), raising_of_threads():
        thread = threading.Thread(target=job)
        thread.start()
        thread.join()
