"""SIGTERM is heeded as Ctrl-C by every command: one line, exit code 143."""

import signal
import threading

import pytest

from svgan import cli, termination
from sweeps import __main__ as sweeps_main


def test_sigterm_is_an_interrupt_of_its_own_code_and_the_handler_before_comes_back():
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt) as raised, termination.heeded():
        signal.raise_signal(signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) is before
    assert termination.exit_code(raised.value) == 143
    assert termination.described(raised.value) == "terminated"
    assert termination.exit_code(KeyboardInterrupt()) == 130


def test_another_thread_leaves_the_handler_alone():
    before, seen = signal.getsignal(signal.SIGTERM), []

    def enter():
        with termination.heeded():
            seen.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    assert seen == [before]


class Terminating:
    HELP = ABOUT = "be sent SIGTERM"

    def flags(self, parser):
        pass

    def run(self, options):
        signal.raise_signal(signal.SIGTERM)


@pytest.mark.parametrize("commands", [cli, sweeps_main], ids=["svgan", "sweeps"])
def test_a_command_ends_with_143_and_one_line(commands, monkeypatch, capsys):
    monkeypatch.setitem(commands.COMMANDS, "wait", Terminating())
    if commands is cli:
        code = cli.run(["wait"])
    else:
        with pytest.raises(SystemExit) as ended:
            sweeps_main.main(["wait"])
        code = ended.value.code
    assert code == 143
    assert capsys.readouterr().err == "svgan: terminated\n"
