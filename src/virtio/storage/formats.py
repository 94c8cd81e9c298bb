"""Image formats that are not raw, by what their files begin with."""

from __future__ import annotations

import os

from virtio.errors import StorageFormatError

__all__ = ["image_format", "refuse_formats"]

MAGIC = {
    "qcow2": (0, b"QFI\xfb"),
    "VMDK": (0, b"KDMV"),
    "VHDX": (0, b"vhdxfile"),
    "VHD": (0, b"conectix"),
    "VDI": (0x40, b"\x7f\x10\xda\xbe"),
}
HEAD = 128  # bytes: all of the above show themselves within


def image_format(path: str | os.PathLike[str]) -> str | None:
    """The name of the format that the file begins like; None for a raw image."""
    with open(path, "rb", buffering=0) as file:
        head = file.read(HEAD)
    return next((name for name, (at, magic) in MAGIC.items() if head[at:].startswith(magic)), None)


def refuse_formats(path: str | os.PathLike[str]) -> None:
    """StorageFormatError unless the file is raw: a guest would see nonsense, and damage the image."""
    found = image_format(path)
    if found is None:
        return
    raw = os.path.splitext(path)[0] + ".raw"
    raise StorageFormatError(
        f"{path} is a {found} image, and only raw images can be served so far",
        fix=f"qemu-img convert -O raw {path} {raw}; to serve its bytes as they are: file:{path}?format=raw",
    )
