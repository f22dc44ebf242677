"""Says what hooks may ask of the disk, as diskimage-builder's file of this name does. Making the disk is plywood's own work.

    dib-block-device.py [--params FILE] getval SYMBOL
    dib-block-device.py [--params FILE] init

`init` does nothing: the description of the disk was read before the first hook ran.
"""

import os
import sys

SYMBOLS = {
    "boot-label": "DIB_BOOT_LABEL",
    "image-block-device": "IMAGE_BLOCK_DEVICE",
    "image-block-devices": "IMAGE_BLOCK_DEVICES",
    "mount-points": "DIB_MOUNTPOINTS",
    "root-fstype": "DIB_ROOT_FSTYPE",
    "root-label": "DIB_ROOT_LABEL",
}


def value_of(words):
    """Returns what a command line asks for."""
    if words[:1] == ["--params"]:
        words = words[2:]
    if words[:1] != ["getval"] or len(words) != 2:
        raise SystemExit("dib-block-device: plywood makes the disk itself; hooks may call: init, getval SYMBOL")
    variable = SYMBOLS.get(words[1])
    if variable is None:
        raise SystemExit(f"dib-block-device: no symbol {words[1]}: there are {', '.join(SYMBOLS)}")
    if variable not in os.environ:
        raise SystemExit(f"dib-block-device: {words[1]} is not known yet: there is no disk before pre-finalise.d")
    return os.environ[variable]


if sys.argv[-1] != "init":
    print(value_of(sys.argv[1:]))
