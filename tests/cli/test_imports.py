"""The command line starts without the libraries that take seconds to load."""

from __future__ import annotations

import subprocess
import sys

HEAVY = ("torch", "diffusers", "transformers", "numpy", "PIL", "huggingface_hub")


def test_importing_the_command_line_is_light() -> None:
    script = "import sys, videosvc.cli.main; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    modules = done.stdout.split()
    assert [name for name in HEAVY if name in modules] == []
    assert len(modules) < 800  # 540 in 2026; torch alone brings 1400


def test_ctrl_c_while_it_imports_is_one_line() -> None:
    script = (
        "import sys\n"
        "class CtrlC:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name == 'videosvc.cli.main':\n"
        "            raise KeyboardInterrupt\n"
        "sys.meta_path.insert(0, CtrlC())\n"
        "from videosvc.cli.entry import main\n"
        "main()"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (130, "")
    assert done.stderr == "interrupted: nothing was written\n"


def test_bad_input_is_refused_before_torch_is_loaded() -> None:
    script = (
        "import sys; from videosvc.cli.main import run;"
        "code = run(['generate', 'x', '-o', 'a.mp4', '--seconds', '99']);"
        "sys.exit(code if 'torch' not in sys.modules else 99)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 2, done.stderr
