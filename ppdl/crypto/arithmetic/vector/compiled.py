"""Compile the vector kernel for this machine, once a size; the machine code is kept in the user's cache."""

from __future__ import annotations

import ctypes
import hashlib
import os
import tempfile
import threading
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import llvmlite
import llvmlite.binding as llvm

from ppdl.crypto.arithmetic.vector import emit

NEEDED_FEATURES = ("avx512f", "avx512ifma")
_lock = threading.Lock()
_engines: list[Any] = []  # they own the machine code


@cache
def missing_features() -> tuple[str, ...]:
    """Name what this processor, or an operating system that does not save its 512-bit registers, lacks; empty where the kernel runs."""
    _initialise()
    found = llvm.get_host_cpu_features()
    return tuple(name for name in NEEDED_FEATURES if not found.get(name))


@cache
def kernel(num_digits: int) -> Callable[..., None]:
    """Return `run` of `emit_kernel`, as a C function that releases the GIL.

    Cost: about a second at first use of a size on a machine, then milliseconds from the cache (40 KiB a size).
    """
    with _lock:
        _initialise()
        machine = _target_machine()
        # llvmlite's memory manager keeps the sections of an object together: they address each other by 32 bits, and in a process with much
        # memory the other one puts them too far apart, which ends the process
        engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), machine, use_lmm=True)
        engine.add_object_file(llvm.ObjectFileRef.from_data(_machine_code(num_digits, machine)))
        engine.finalize_object()
        _engines.append(engine)
        pointer, size = ctypes.c_void_p, ctypes.c_int64
        prototype = ctypes.CFUNCTYPE(None, pointer, size, pointer, pointer, pointer, size, pointer, pointer, size, size, pointer, pointer)
        return prototype(engine.get_function_address("run"))


def cache_folder() -> Path:
    """Return the folder of compiled kernels: below XDG_CACHE_HOME or ~/.cache."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ppdl" / "kernels"


@cache
def _initialise() -> None:
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()


def _target_machine() -> Any:
    target = llvm.Target.from_default_triple()
    return target.create_target_machine(
        cpu=llvm.get_host_cpu_name(), features=llvm.get_host_cpu_features().flatten(), opt=2, reloc="pic", codemodel="small"
    )


def _machine_code(num_digits: int, machine: Any) -> bytes:
    """Return the object file of a size, from the cache where it is whole."""
    processor = f"{llvm.get_host_cpu_name()} {llvm.get_host_cpu_features().flatten()}"
    made_of = f"{Path(emit.__file__).read_text()} {num_digits} {llvmlite.__version__} {processor}"
    file = cache_folder() / f"{hashlib.sha256(made_of.encode()).hexdigest()[:40]}.o"
    if (code := _read(file)) is not None:
        return code
    code = _compile(emit.emit_kernel(num_digits), machine)
    try:
        _write(file, code)
    except OSError:
        return code  # a read-only home: compiled again next time
    return code


def _compile(source: str, machine: Any) -> bytes:
    module = llvm.parse_assembly(source)
    options = llvm.create_pipeline_tuning_options(speed_level=1)
    options.loop_unrolling = options.loop_vectorization = options.slp_vectorization = False  # the tiles fill the registers as they are
    passes = llvm.create_new_module_pass_manager()
    passes.add_sroa_pass()
    passes.add_simplify_cfg_pass()
    passes.add_instruction_combine_pass()
    passes.run(module, llvm.create_pass_builder(machine, options))
    return machine.emit_object(module)


def _read(file: Path) -> bytes | None:
    """Return the code of a cached file that this user alone could write, else None: other people's code is not run.

    Its digest stands before it, so that one cut short by a crash is compiled anew.
    """
    try:
        with file.open("rb") as opened:
            found = os.fstat(opened.fileno())  # of the open file: it cannot be exchanged in between
            data = opened.read() if found.st_uid == os.geteuid() and not found.st_mode & 0o022 else b""
    except OSError:
        return None
    return data[32:] if hashlib.sha256(data[32:]).digest() == data[:32] else None


def _write(file: Path, code: bytes) -> None:
    file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with tempfile.NamedTemporaryFile(dir=file.parent, delete=False) as temporary:
        temporary.write(hashlib.sha256(code).digest() + code)
    Path(temporary.name).replace(file)
