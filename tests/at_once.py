"""Processes that do the same at the same moment."""

import os
import subprocess
import sys


def run_at_once(prepare: str, do: str, argument: str, count: int) -> list[str]:
    """What `count` processes print for the expression `do`, begun once each has run `prepare`.

    Both see `argument` as `sys.argv[1]`.
    """
    code = f"import sys; {prepare}; print('ready', flush=True); input(); print({do})"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    started = [subprocess.Popen([sys.executable, "-c", code, argument], env=environment, **pipes) for _ in range(count)]
    for process in started:
        assert process.stdout.readline() == "ready\n"
    for process in started:
        process.stdin.write("go\n")
        process.stdin.flush()
    return [process.communicate(timeout=300)[0] for process in started]
