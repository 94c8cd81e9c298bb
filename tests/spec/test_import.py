"""Importing the package stays cheap: device types load when asked for."""

import subprocess
import sys


def run(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout


LOADED = "print(*(m for m in sys.modules if m.startswith('virtio.spec.')))"


def test_only_what_is_asked_for_is_loaded():
    eager = set(run(f"import sys; from virtio import spec; {LOADED}").split())
    assert eager == {f"virtio.spec.{name}" for name in ("declare", "features", "ids", "layout", "status")}
    loaded = set(run(f"import sys; from virtio import spec; spec.device('blk'); {LOADED}").split())
    assert loaded - eager == {"virtio.spec.blk"}


def test_no_heavy_module_comes_along():
    loaded = set(run("import sys; import virtio.spec; print(*sys.modules)").split())
    assert not {"dataclasses", "inspect", "asyncio", "json", "click"} & loaded
