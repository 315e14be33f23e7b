"""What torch's compiler finds out once per process, found out for all processes that are forked from this one.

A fork server imports this module. A thread asks while the server goes on importing: which vector units the C++
compiler can make code for, and the digest of torch's sources that is part of every key in the compile cache. Each
takes some tenths of a second, which would count as compile time of the first arm that needs it.
"""

import contextlib
import os
import threading

import torch
import torch.utils.cpp_extension  # here, not by the thread: setuptools puts a distutils of its own in Python's place
from torch._inductor.codecache import torch_key
from torch._inductor.cpu_vec_isa import pick_vec_isa

import src.compilation.scopes  # noqa: F401 - it lets torch compile in any folder


def ask() -> None:
    """Let torch keep the answers; where it cannot find one, a run will ask again and report."""
    with contextlib.suppress(Exception):
        torch_key()
    if not torch.cuda.is_available():  # else kernels are compiled for the GPU
        with contextlib.suppress(Exception):
            pick_vec_isa()


def ask_meanwhile() -> None:
    """Ask in a thread, which no fork of this process outruns."""
    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    os.register_at_fork(before=asking.join)


ask_meanwhile()
