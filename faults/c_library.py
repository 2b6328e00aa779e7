"""C programs on TensorFlow's C library, which is in its wheel."""

import importlib.util
import pathlib
import re
import shutil
import subprocess

HEADER = pathlib.Path(__file__).with_name("saved_model.h")
_LIBRARY = "libtensorflow_cc.so.2"


def compiled(source: pathlib.Path, program: pathlib.Path) -> pathlib.Path:
    """Compiles a C program of one file, which may include saved_model.h, and returns it.

    Raises:
        FileNotFoundError: if there is no C compiler, or no C library in TensorFlow's wheel.
        ValueError: if it cannot be compiled.
    """
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        raise FileNotFoundError("a C compiler is needed, cc, gcc or clang, and there is none")
    tensorflow = pathlib.Path(importlib.util.find_spec("tensorflow").origin).parent
    if not (tensorflow / _LIBRARY).is_file():
        raise FileNotFoundError(f"{tensorflow / _LIBRARY}: TensorFlow's wheel has no C library here")
    # The linker would read the library, a gigabyte, for half a minute. One with the same name and functions that do
    # nothing is enough for it.
    stands_in = program.with_name(_LIBRARY)
    functions = sorted(set(re.findall(r"\bTF_\w+(?=\()", source.read_text() + HEADER.read_text())))
    empty = "".join(f"void {name}(void) {{}}\n" for name in functions)
    _run([compiler, "-shared", "-fPIC", "-xc", "-", f"-Wl,-soname,{_LIBRARY}", "-o", str(stands_in)], empty)
    flags = ["-O1", "-Wall", "-Werror", f"-I{tensorflow / 'include'}", f"-I{HEADER.parent}", f"-Wl,-rpath,{tensorflow}"]
    _run([compiler, *flags, str(source), str(stands_in), "-lm", "-lpthread", "-o", str(program)])
    stands_in.unlink()
    return program


def _run(command, text=""):
    done = subprocess.run(command, input=text, capture_output=True, text=True)
    if done.returncode:
        raise ValueError(f"{' '.join(command)}: {done.stderr.strip()}")
