from __future__ import annotations

import gzip
import lzma
import shutil
import subprocess
from pathlib import Path

import pytest

from virtio.errors import HostError
from virtio.vm.modules import ModuleTree, module_name

DEPENDENCIES = """\
kernel/virtio.ko.xz:
kernel/virtio_ring.ko.gz:
kernel/virtio-pci.ko: kernel/virtio_ring.ko.gz kernel/virtio.ko.xz
kernel/lonely.ko:
"""


@pytest.fixture
def tree(tmp_path: Path) -> ModuleTree:
    directory = tmp_path / "6.1.0-test"
    (directory / "kernel").mkdir(parents=True)
    (directory / "modules.dep").write_text(DEPENDENCIES)
    (directory / "modules.builtin").write_text("kernel/fs/ext4/ext4.ko\n")
    (directory / "modules.alias").write_text("alias pci:v00001AF4d* virtio_pci\nalias fs-x lonely\n")
    (directory / "kernel/virtio.ko.xz").write_bytes(lzma.compress(b"virtio"))
    (directory / "kernel/virtio_ring.ko.gz").write_bytes(gzip.compress(b"ring"))
    (directory / "kernel/virtio-pci.ko").write_bytes(b"pci")
    return ModuleTree(directory, "linux-image-test")


def test_what_a_module_needs_comes_before_it(tree: ModuleTree) -> None:
    assert tree.release == "6.1.0-test"
    paths = tree.resolve(("virtio_pci", "virtio"))
    assert paths == ["kernel/virtio.ko.xz", "kernel/virtio_ring.ko.gz", "kernel/virtio-pci.ko"]
    assert [tree.read(path) for path in paths] == [b"virtio", b"ring", b"pci"]


def test_a_built_in_module_needs_no_file(tree: ModuleTree) -> None:
    assert tree.resolve(("ext4",)) == []
    assert tree.available(("ext4", "lonely", "nothing")) == ("lonely",)


def test_a_missing_module_is_named_with_its_package(tree: ModuleTree) -> None:
    with pytest.raises(HostError, match=r"6\.1\.0-test has no module virtio_rng") as raised:
        tree.resolve(("virtio-rng",))
    assert "linux-image-test" in raised.value.fix


def test_aliases_of_chosen_modules_only(tree: ModuleTree) -> None:
    assert tree.aliases(["kernel/virtio-pci.ko"]) == "alias pci:v00001AF4d* virtio_pci\n"


def test_modules_without_their_index(tmp_path: Path) -> None:
    with pytest.raises(HostError, match=r"modules\.dep is missing") as raised:
        ModuleTree(tmp_path / "6.1.0").resolve(("virtio",))
    assert "depmod 6.1.0" in raised.value.fix


def test_names_are_spelt_one_way() -> None:
    assert {module_name(name) for name in ("a/virtio-rng.ko.zst", "virtio_rng.ko", "virtio-rng")} == {
        "virtio_rng"
    }


def test_zstd_modules(tree: ModuleTree, monkeypatch: pytest.MonkeyPatch) -> None:
    packed = tree.directory / "kernel/packed.ko.zst"
    if shutil.which("zstd"):
        packed.write_bytes(subprocess.run(["zstd", "-cq"], input=b"packed", stdout=-1, check=True).stdout)
        assert tree.read("kernel/packed.ko.zst") == b"packed"
    packed.write_bytes(b"whatever")
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(HostError, match="no zstd program"):
        tree.read("kernel/packed.ko.zst")
