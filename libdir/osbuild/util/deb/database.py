"""dpkg's database for packages that are unpacked and not configured yet.

dpkg reads it, configures everything and from then on keeps it; see dpkg(1) on the states and deb-triggers(5).
"""

import hashlib
import os

from osbuild.util.deb import archive

DIRECTORY = "var/lib/dpkg"
NOT_STORED = ("control",)
FIELDS_NOT_IN_STATUS = ("Filename", "Size", "MD5sum", "SHA1", "SHA256", "Description-md5")


def write(packages, contents, tree):
    """Write status, file lists, maintainer scripts and triggers for *packages*."""
    root = os.path.join(tree, DIRECTORY)
    for name in ("info", "triggers", "updates", "alternatives", "parts"):
        os.makedirs(os.path.join(root, name), mode=0o755, exist_ok=True)
    ordered = sorted(packages, key=lambda package: (package.name, package.stanza["Architecture"]))
    _text(root, "status", "".join(_status(package, contents[package]) for package in ordered))
    _text(root, "diversions", "")
    _text(root, "info/format", "1\n")
    for package in ordered:
        _info(package, contents[package], tree, root)
    _triggers(ordered, root)
    _text(root, "triggers/Unincorp", "")


def add(packages, contents, tree):
    """Add *packages* to the database of a tree with others, and activate those that wait for files."""
    root = os.path.join(tree, DIRECTORY)
    ordered = sorted(packages, key=lambda package: (package.name, package.stanza["Architecture"]))
    with open(os.path.join(root, "status"), "a", encoding="utf-8", errors="surrogateescape") as file:
        file.write("".join(_status(package, contents[package]) for package in ordered))
    for package in ordered:
        _info(package, contents[package], tree, root)
    waiting = _waiting(root, {path for paths in contents.values() for path in paths}, ordered)
    _triggers(ordered, root)
    # Without a package behind the name, nobody waits until the trigger was processed.
    _text(root, "triggers/Unincorp", "".join("%s -\n" % name for name in sorted(waiting)))


def _waiting(root, paths, packages):
    """Return the triggers of installed packages that *paths*, or the packages themselves, activate."""
    found = set()
    for line in _lines(os.path.join(root, "triggers/File")):
        place = line.split(" ")[0]
        if any(path == place or path.startswith(place + "/") for path in paths):
            found.add(place)
    for package in packages:
        for line in archive.text(package.control_files.get("triggers", (b"", 0))[0]).splitlines():
            words = line.split("#")[0].split()
            if len(words) == 2 and words[0].startswith("activate"):
                found.add(words[1])
    return found


def _lines(path):
    if not os.path.exists(path):
        return []
    with open(path, encoding="utf-8", errors="surrogateescape") as file:
        return file.read().splitlines()


def _status(package, paths):
    fields = [("Package", package.name), ("Status", "install ok unpacked")]
    fields += [
        (name, value)
        for name, value in package.stanza.items()
        if name not in FIELDS_NOT_IN_STATUS and name != "Package"
    ]
    conffiles = [path for path in package.conffiles if path in set(paths)]  # not those that another package took over
    if conffiles:
        fields.append(("Conffiles", "".join("\n %s newconffile" % path for path in conffiles)))
    return "".join("%s:%s%s\n" % (name, "" if value.startswith("\n") else " ", value) for name, value in fields) + "\n"


def _info(package, paths, tree, root):
    _text(root, "info/%s.list" % package.info_name, "".join(path + "\n" for path in paths))
    for name, (data, mode) in package.control_files.items():
        if name in NOT_STORED or "/" in name:
            continue
        path = os.path.join(root, "info", "%s.%s" % (package.info_name, name))
        with open(path, "wb") as file:
            file.write(data)
        os.chmod(path, 0o755 if mode & 0o111 else 0o644)
    if "md5sums" not in package.control_files:  # dpkg makes it when it unpacks, and `dpkg --audit` asks for it
        _text(root, "info/%s.md5sums" % package.info_name, "".join(_sums(package, paths, tree)))


def _sums(package, paths, tree):
    conffiles = package.conffiles
    for path in paths:
        if path in conffiles or os.path.islink(tree + path) or not os.path.isfile(tree + path):
            continue
        state = hashlib.md5()
        with open(tree + path, "rb") as file:
            for piece in iter(lambda: file.read(1 << 20), b""):
                state.update(piece)
        yield "%s  %s\n" % (state.hexdigest(), path[1:])


def _triggers(packages, root):
    """Register who is interested in what; nothing is pending, since every package will be configured anyway."""
    files, named = [], {}
    for package in packages:
        for line in archive.text(package.control_files.get("triggers", (b"", 0))[0]).splitlines():
            words = line.split("#")[0].split()
            if len(words) != 2 or not words[0].startswith("interest"):
                continue
            owner = package.info_name + ("/noawait" if words[0] == "interest-noawait" else "")
            if words[1].startswith("/"):
                files.append("%s %s\n" % (words[1], owner))
            else:
                named.setdefault(words[1], []).append(owner + "\n")
    for name, lines in {"File": files, **named}.items():
        kept = [line + "\n" for line in _lines(os.path.join(root, "triggers", name))]
        _text(root, "triggers/%s" % name, "".join(kept + lines))


def _text(root, name, text):
    path = os.path.join(root, name)
    with open(path, "w", encoding="utf-8", errors="surrogateescape") as file:
        file.write(text)
    os.chmod(path, 0o644)
