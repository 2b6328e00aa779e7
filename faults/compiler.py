"""The machine's C compiler."""

import shutil
import subprocess


def compile_c(*arguments: object, text: str = "") -> None:
    """Runs the C compiler.

    Args:
        arguments: As the compiler takes them.
        text: Its standard input: a program, where "-" is among the arguments.

    Raises:
        FileNotFoundError: if there is none.
        ValueError: if it fails.
    """
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        raise FileNotFoundError("a C compiler is needed, cc, gcc or clang, and there is none")
    command = [compiler, *map(str, arguments)]
    done = subprocess.run(command, input=text, capture_output=True, text=True)
    if done.returncode:
        raise ValueError(f"{' '.join(command)}: {done.stderr.strip()}")
