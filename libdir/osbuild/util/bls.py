"""Boot loader entries (Python 3.6)."""

import glob
import os


def options_append(root_path, kernel_arguments):
    """Add arguments of the kernel to the only entry in /boot/loader/entries below *root_path*.

    Raises RuntimeError unless there is exactly one entry with a line of options.
    """
    entries = glob.glob(os.path.join(root_path, "boot/loader/entries/*.conf"))
    if len(entries) != 1:
        raise RuntimeError("there are %d boot loader entries instead of one" % len(entries))
    with open(entries[0], encoding="utf-8") as file:
        lines = file.read().splitlines()
    places = [index for index, line in enumerate(lines) if line.startswith("options ")]
    if not places:
        raise RuntimeError("%s has no line of options" % entries[0])
    lines[places[0]] = " ".join([lines[places[0]].rstrip()] + list(kernel_arguments))
    with open(entries[0], "w", encoding="utf-8") as file:
        file.write("\n".join(lines) + "\n")
