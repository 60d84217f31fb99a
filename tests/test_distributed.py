"""Groups of processes: each process knows its number, and none leaves before the others are done."""

import os
import socket
import subprocess
import sys
import textwrap
import time

from limbeck.distributed import end_process_group, process_state

SCRIPT = """
    import sys, time
    from torch import distributed
    from limbeck.distributed import end_process_group, process_state
    state = process_state()
    time.sleep(state.process_index)
    print(state.process_index, state.num_processes, state.device.type, time.time())
    end_process_group()
    print(distributed.is_initialized(), time.time())
"""


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def test_two_processes_know_each_other_and_end_together():
    """Start two processes as ``torchrun`` does, on a machine without a GPU."""
    group = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    group |= {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(SCRIPT)],
            env=os.environ | group | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in (0, 1)
    ]
    outputs = [process.communicate(timeout=120) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], outputs
    lines = [out.split("\n") for out, _ in outputs]
    assert [line[0].split()[:3] for line in lines] == [["0", "2", "cpu"], ["1", "2", "cpu"]]
    assert [line[1].split()[0] for line in lines] == ["False", "False"]
    first_ended, second_was_done = float(lines[0][1].split()[1]), float(lines[1][0].split()[3])
    assert first_ended >= second_was_done


def test_a_single_process_waits_for_nobody():
    state = process_state()
    assert (state.process_index, state.num_processes) == (0, 1)
    start = time.perf_counter()
    end_process_group()
    assert time.perf_counter() - start < 1
