"""Which files of a Debian tree go into which layer of a container image.

What seldom changes lies below: the essential packages, then the large ones alone, then the others in a fixed number of
groups by their names, then what no package owns (configuration, accounts, dpkg's database). A new version of one
package therefore changes its own layer and the last one, wherever it stands in the alphabet.
"""

import hashlib
import os

LISTS = "var/lib/dpkg/info"
MERGED = ("bin", "sbin", "lib", "lib32", "lib64", "libx32")
LARGE_BYTES = 24 << 20
OTHERS = "rest"


def split(tree, most):
    """Return [(name, sorted paths relative to the tree)], at most *most* layers, none of them empty."""
    owners, essential, sizes = _owners(tree)
    large = sorted(
        (name for name in sizes if sizes[name] >= LARGE_BYTES and name not in essential), key=lambda n: -sizes[n]
    )
    large = sorted(large[: max(0, most // 2 - 1)])
    groups = max(1, most - 2 - len(large))
    layers = {"essential": []}
    layers.update((name, []) for name in large)
    layers.update(("group-%d" % number, []) for number in range(groups))
    layers[OTHERS] = []
    for path in _files(tree):
        owner = owners.get(path)
        if owner is None:
            layer = OTHERS
        elif owner in essential:
            layer = "essential"
        elif owner in layers:
            layer = owner
        else:
            layer = "group-%d" % (int(hashlib.sha256(owner.encode("utf-8")).hexdigest()[:8], 16) % groups)
        layers[layer].append(path)
    return [(name, _with_parents(paths)) for name, paths in layers.items() if paths]


def _owners(tree):
    """Return {path: package}, the names of the essential packages, {package: bytes of its files}."""
    owners, sizes = {}, {}
    root = os.path.join(tree, LISTS)
    names = sorted(name for name in os.listdir(root) if name.endswith(".list")) if os.path.isdir(root) else []
    for name in names:
        package = name[: -len(".list")].partition(":")[0]
        with open(os.path.join(root, name), encoding="utf-8", errors="surrogateescape") as file:
            for line in file:
                path = line.rstrip("\n")[1:]
                head, _, rest = path.partition("/")
                path = "usr/" + path if rest and head in MERGED else path
                try:
                    status = os.lstat(os.path.join(tree, path))
                except OSError:
                    continue
                if not os.path.isdir(os.path.join(tree, path)) or os.path.islink(os.path.join(tree, path)):
                    owners.setdefault(path, package)
                    sizes[package] = sizes.get(package, 0) + status.st_size
    return owners, _essential(tree), sizes


def _essential(tree):
    path = os.path.join(tree, "var/lib/dpkg/status")
    if not os.path.exists(path):
        return frozenset()
    with open(path, encoding="utf-8", errors="surrogateescape") as file:
        stanzas = file.read().split("\n\n")
    return frozenset(text.split("\n", 1)[0][len("Package: ") :] for text in stanzas if "\nEssential: yes\n" in text)


def _files(tree):
    """Yield every path that is no directory, and every empty directory."""
    for directory, folders, names in os.walk(tree):
        folders.sort()
        relative = os.path.relpath(directory, tree)
        prefix = "" if relative == "." else relative + "/"
        linked = [name for name in folders if os.path.islink(os.path.join(directory, name))]
        for name in sorted(names + linked):
            yield prefix + name
        if not names and not folders and prefix:
            yield prefix[:-1]


def _with_parents(paths):
    wanted = set(paths)
    for path in paths:
        parent = os.path.dirname(path)
        while parent and parent not in wanted:
            wanted.add(parent)
            parent = os.path.dirname(parent)
    return sorted(wanted)
