"""C programs on TensorFlow's C library, which is in its wheel."""

import importlib.util
import pathlib
import re

from faults.compiler import compile_c

HEADER = pathlib.Path(__file__).with_name("saved_model.h")
_LIBRARY = "libtensorflow_cc.so.2"


def compiled(source: pathlib.Path, program: pathlib.Path) -> pathlib.Path:
    """Compiles a C program of one file, which may include saved_model.h, and returns it.

    Raises:
        FileNotFoundError: if there is no C compiler, or no C library in TensorFlow's wheel.
        ValueError: if it cannot be compiled.
    """
    tensorflow = pathlib.Path(importlib.util.find_spec("tensorflow").origin).parent
    if not (tensorflow / _LIBRARY).is_file():
        raise FileNotFoundError(f"{tensorflow / _LIBRARY}: TensorFlow's wheel has no C library here")
    # The linker would read the library, a gigabyte, for half a minute. One with the same name and functions that do
    # nothing is enough for it.
    stands_in = program.with_name(_LIBRARY)
    functions = sorted(set(re.findall(r"\bTF_\w+(?=\()", source.read_text() + HEADER.read_text())))
    empty = "".join(f"void {name}(void) {{}}\n" for name in functions)
    compile_c("-shared", "-fPIC", "-xc", "-", f"-Wl,-soname,{_LIBRARY}", "-o", stands_in, text=empty)
    flags = ["-O1", "-Wall", "-Werror", f"-I{tensorflow / 'include'}", f"-I{HEADER.parent}", f"-Wl,-rpath,{tensorflow}"]
    compile_c(*flags, source, stands_in, "-lm", "-lpthread", "-o", program)
    stands_in.unlink()
    return program

