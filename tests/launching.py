"""Several ranks, started like those of torchrun, but forked, because torch is imported already.

The store of their process group belongs to the parent, as with torchrun, and outlives each rank.
"""

import contextlib
import functools
import multiprocessing
import os
import signal
import sys
import traceback
from pathlib import Path

from devices import skip_on_card
from torch.distributed import TCPStore


def _start(work, rank, count, port, folder):
    # Not '1', which torchrun sets if the user has not set it.
    os.environ |= {
        'RANK': str(rank), 'LOCAL_RANK': str(rank), 'WORLD_SIZE': str(count),
        'LOCAL_WORLD_SIZE': str(count), 'MASTER_ADDR': '127.0.0.1', 'MASTER_PORT': str(port),
        'OMP_NUM_THREADS': '2', 'TORCHELASTIC_USE_AGENT_STORE': 'True',
    }  # fmt: skip
    for name in ('SIGINT', 'SIGTERM'):
        signal.signal(getattr(signal, name), signal.Handlers.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with Path(folder, f'out{rank}').open('w') as out, Path(folder, f'err{rank}').open('w') as err:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = work(rank)
        sys.stdout.flush()
    sys.exit(code or 0)


def launch(work, folder, count=2):
    """Start `count` processes of work(rank), with output to folder/out{rank} and err{rank}."""
    skip_on_card(f'{count} processes need {count} cards')
    store = TCPStore('127.0.0.1', 0, is_master=True, wait_for_workers=False)
    context = multiprocessing.get_context('fork')
    started = [
        context.Process(target=_start, args=(work, rank, count, store.port, folder))
        for rank in range(count)
    ]
    for process in started:
        process.start()
        process.store = store  # keeps the store alive
    return started


def exit_codes(started, seconds=120):
    """Wait for all processes and return their exit codes; fail if one is not done in `seconds`."""
    for process in started:
        process.join(seconds)
        if process.is_alive():
            for other in started:
                other.kill()
            raise AssertionError(f'process {process.pid} did not end')
    return [process.exitcode for process in started]


def run_together(work, folder, count=2):
    """Run work(rank) in `count` processes and return their exit codes."""
    return exit_codes(launch(work, folder, count))


def in_own_process(test):
    """Decorate a test to run in a forked process of its own.

    For tests that load runtimes with threads of their own: tests that trained after them in the
    same process have crashed.
    """

    @functools.wraps(test)
    def forked(*arguments, **fixtures):
        skip_on_card('a forked process cannot use the card of its parent')
        context = multiprocessing.get_context('fork')
        receiver, sender = context.Pipe(duplex=False)

        def run():
            try:
                test(*arguments, **fixtures)
                sender.send('')
            except BaseException:  # noqa: BLE001  any failure of the test
                sender.send(traceback.format_exc())

        process = context.Process(target=run)
        process.start()
        sender.close()
        try:
            failure = receiver.recv()
        except EOFError:
            failure = 'the process ended without a result'
        process.join()
        assert not failure, failure

    return forked
