"""What torch's compiler finds out once per process or machine, before anything is compiled that is timed.

Which vector units the C++ compiler can make code for, the digest of torch's sources that is part of every key in the
compile cache, and the precompiled header of its C++ code. That is kept for all processes of a machine, outside of the
compile cache, and takes as long to make as a small model to compile; the others take some tenths of a second. All of
it would count as compile time of the first arm that needs it.
"""

import contextlib

import torch
import torch.utils.cpp_extension  # here, not by a thread: setuptools puts a distutils of its own in Python's place
from torch._inductor.codecache import CppPythonBindingsCodeCache, torch_key
from torch._inductor.cpu_vec_isa import pick_vec_isa

import src.compilation.scopes  # noqa: F401 - it lets torch compile in any folder


def ask(kind: str = "") -> None:
    """Let torch keep the answers; where it cannot find one, a run will ask again and report.

    Args:
        kind: of the device that code is made for: ``cpu``, ``cuda``. Empty: the GPU if there is one.
    """
    with contextlib.suppress(Exception):
        torch_key()
    if (kind or ("cuda" if torch.cuda.is_available() else "cpu")) == "cpu":
        with contextlib.suppress(Exception):
            pick_vec_isa()
        with contextlib.suppress(Exception):
            CppPythonBindingsCodeCache.load_async(
                "// at::vec::"
            )  # makes the header, and this code when it is called
