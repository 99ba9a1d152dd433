"""Several processes for one command, as torchrun starts them."""

import logging
import os
import sys
from collections.abc import Sequence

from pretext.command_line import INTERRUPTED
from pretext.errors import InputError


def spawn_processes(module: str, arguments: Sequence[str]) -> int | None:
    """Start this command once on each of GPUS devices (and of NNODES machines), as torchrun does.

    Args:
        module: What ``python -m`` runs: ``pretext`` or ``transfer``.
        arguments: Its arguments, the command's name first.

    Returns:
        The exit code, 128 and the signal's number if one ended the processes; or None if this process is to do the
        work itself: GPUS and NNODES are 1 or not set, or torchrun has started it already.

    Raises:
        InputError: GPUS, NNODES, NODE_RANK or MASTER_PORT is not a whole number, or GPUS or NNODES is 0.
    """
    gpus, nodes = _environment_number("GPUS", 1, least=1), _environment_number("NNODES", 1, least=1)
    if "LOCAL_RANK" in os.environ or gpus * nodes == 1:
        return None
    # Imported here: it takes a second that a single process does not need.
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.run import get_args_parser, run

    # The processes' own errors say what torch's log would say around them. torch sets the levels of its loggers anew.
    logging.disable(logging.ERROR)
    # Each process of mmengine would warn that it sets this to 1.
    os.environ.setdefault("MKL_NUM_THREADS", os.environ.get("OMP_NUM_THREADS", "1"))
    options = [f"--nproc-per-node={gpus}", f"--nnodes={nodes}"]
    if nodes == 1:
        options.append("--standalone")
    else:
        options += [
            f"--node-rank={_environment_number('NODE_RANK', 0)}",
            f"--master-addr={os.environ.get('MASTER_ADDR', '127.0.0.1')}",
            f"--master-port={_environment_number('MASTER_PORT', 29500)}",
        ]
    try:
        run(  # type: ignore[no-untyped-call]
            get_args_parser().parse_args([*options, "--module", module, *arguments])
        )
    except SignalException as error:
        # torchrun has passed it on, and waited until all had left.
        print(INTERRUPTED, file=sys.stderr)
        return 128 + int(error.sigval)
    except ChildFailedError as error:
        # An error on one process makes the others fail too, of which only the first has told why.
        failures = list(error.failures.values())
        told = [one for one in failures if isinstance(one.error_file_data["message"], dict)]
        failure = min(told or failures, key=lambda one: one.timestamp)
        if told:
            # Not the process's own exit code: torchrun's SIGTERM may have reached it after it had told.
            kind, _, reason = failure.error_file_data["message"]["message"].partition(": ")
            code = 2 if kind == InputError.__name__ else 1
        else:
            # Ended by a signal, which subprocess gives as a negative number and shells as 128 and more.
            code = failure.exitcode if failure.exitcode >= 0 else 128 - failure.exitcode
            reason = f"process {failure.local_rank} ended with exit code {code}"
        print(f"error: {reason}", file=sys.stderr)
        return code
    return 0


def _environment_number(name: str, default: int, least: int = 0) -> int:
    text = os.environ.get(name) or str(default)
    if not text.isdecimal() or int(text) < least:
        raise InputError(f"{name} must be a whole number from {least} up", received=text)
    return int(text)
