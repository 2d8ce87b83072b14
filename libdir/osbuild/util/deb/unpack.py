"""Unpacking many packages into one tree at the same time.

dpkg unpacks one package after the other, so that later ones can take over files of earlier ones. Here each
worker process unpacks its share straight into the tree; paths that several packages bring are found afterwards
and given to the package that Replaces the other, as dpkg does. Nobody may read the tree meanwhile.
"""

import errno
import json
import os
import stat
import traceback

MERGED_DIRECTORIES = ("bin", "sbin", "lib", "lib32", "lib64", "libx32")
ROOT_LINKS = ("bin", "sbin", "lib")


class UnpackError(Exception):
    """The packages cannot be unpacked beside each other."""


def make_merged_usr(tree, architecture):
    """Make /bin, /sbin and /lib* links into /usr, as Debian's installer does for new systems."""
    links = ROOT_LINKS + (("lib32", "lib64", "libx32") if architecture == "amd64" else ())
    for name in links:
        path = os.path.join(tree, name)
        if not os.path.lexists(path):
            os.makedirs(os.path.join(tree, "usr", name), exist_ok=True)
            os.symlink("usr/" + name, path)


def unpack_all(packages, tree, jobs, progress):
    """Unpack *packages* and return {package: list of paths as in the archive}; *progress* gets each package."""
    shares = _shares(packages, jobs)
    workers = [_start(share, tree) for share in shares if share]
    contents, kinds, failures = {}, {}, []
    for share, pipe, child in workers:
        with os.fdopen(pipe, "r", encoding="utf-8") as stream:
            for line in stream:
                record = json.loads(line)
                if "error" in record:
                    failures.append(record["error"])
                    continue
                package = share[record["index"]]
                contents[package] = [path for path, _ in record["paths"]]
                for path, kind in record["paths"]:
                    kinds.setdefault(_real(path), []).append((package, kind))
                progress(package)
        if os.waitpid(child, 0)[1] != 0 and not failures:
            failures.append("a worker process died while unpacking")
    if failures:
        raise UnpackError("\n".join(failures))
    _settle(kinds, contents, tree)
    return contents


def _shares(packages, jobs):
    """Deal the packages out so that each worker has about the same number of bytes; the order is fixed."""
    shares, load = [[] for _ in range(jobs)], [0] * jobs
    for package in sorted(packages, key=lambda item: (-item.data_bytes, item.name)):
        index = load.index(min(load))
        shares[index].append(package)
        load[index] += package.data_bytes
    return shares


def _start(share, tree):
    reader, writer = os.pipe()
    child = os.fork()
    if child:
        os.close(writer)
        return share, reader, child
    status = 1
    try:
        os.close(reader)
        os.umask(0)
        with os.fdopen(writer, "w", encoding="utf-8") as stream:
            try:
                for index, package in enumerate(share):
                    paths = unpack(package, tree)
                    stream.write(json.dumps({"index": index, "paths": paths}) + "\n")
                    stream.flush()
                status = 0
            except Exception:  # the reason must reach the parent, whatever it is
                stream.write(json.dumps({"error": traceback.format_exc()}) + "\n")
    finally:
        os._exit(status)


def unpack(package, tree, only=None):
    """Unpack one package (or *only* some of its paths) and return [(path, kind)]; kind is `d` for directories."""
    conffiles = set(package.conffiles)
    paths, directories = [], []
    with package.data() as archive:
        for member in archive:
            path = _listed(member.name, package)
            if only is not None and path not in only:
                continue
            paths.append((path, "d" if member.isdir() else "f"))
            target = tree + _real(path) + (".dpkg-new" if path in conffiles and not member.isdir() else "")
            _write(archive, member, target, tree)
            if member.isdir() and path not in ("/", "/."):
                directories.append((target, member.mtime))
    for target, mtime in reversed(directories):
        if not os.path.islink(target):
            os.utime(target, (mtime, mtime))
    return paths


def _listed(name, package):
    path = os.path.normpath("/" + name)
    if path.startswith("//"):
        path = path[1:]
    if ".." in name.split("/"):
        raise UnpackError("%s: the path %s leaves the tree" % (package.name, name))
    return "/." if path == "/" else path


def _real(path):
    head, slash, rest = path[1:].partition("/")
    return "/usr/" + head + slash + rest if head in MERGED_DIRECTORIES else path


def _write(archive, member, target, tree):
    if member.isdir():
        _directory(member, target)
        return
    try:
        _create(archive, member, target, tree)
    except FileNotFoundError:
        os.makedirs(os.path.dirname(target), mode=0o755, exist_ok=True)
        _create(archive, member, target, tree)
    except FileExistsError:
        if os.path.isdir(target) and not os.path.islink(target):
            raise UnpackError("%s is a directory in one package and a file in another" % target) from None
        os.unlink(target)
        _create(archive, member, target, tree)


def _directory(member, target):
    try:
        os.mkdir(target, 0o755)
    except FileNotFoundError:
        os.makedirs(target, mode=0o755, exist_ok=True)
    except FileExistsError:
        if not os.path.isdir(target):
            raise UnpackError("%s is a directory in one package and a file in another" % target) from None
        if os.path.islink(target) or stat.S_IMODE(os.lstat(target).st_mode) != 0o755:
            return  # as dpkg: the first package that makes a directory decides on its mode
    os.chown(target, member.uid, member.gid)
    os.chmod(target, member.mode & 0o7777)


def _create(archive, member, target, tree):
    if member.issym():
        os.symlink(member.linkname, target)
        os.lchown(target, member.uid, member.gid)
        os.utime(target, (member.mtime, member.mtime), follow_symlinks=False)
        return
    if member.islnk():
        source = tree + _real(os.path.normpath("/" + member.linkname))
        if not os.path.lexists(source) and os.path.lexists(source + ".dpkg-new"):
            source += ".dpkg-new"
        os.link(source, target, follow_symlinks=False)
        return
    if member.isreg():
        descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb", buffering=0) as file:
            content = archive.extractfile(member)
            for piece in iter(lambda: content.read(1 << 20), b""):
                view = memoryview(piece)
                while view:
                    view = view[file.write(view) :]
            os.fchown(descriptor, member.uid, member.gid)
            os.fchmod(descriptor, member.mode & 0o7777)
            os.utime(descriptor, (member.mtime, member.mtime))
        return
    kinds = {b"3": stat.S_IFCHR, b"4": stat.S_IFBLK, b"6": stat.S_IFIFO}
    if member.type not in kinds:
        raise OSError(errno.EINVAL, "unknown kind of archive member", target)
    os.mknod(target, kinds[member.type] | (member.mode & 0o7777), os.makedev(member.devmajor, member.devminor))
    os.lchown(target, member.uid, member.gid)
    os.chmod(target, member.mode & 0o7777)


def _settle(kinds, contents, tree):
    """Give each path that several packages bring to the one that replaces the others."""
    again = {}
    for path, owners in sorted(kinds.items()):
        files = [package for package, kind in owners if kind != "d"]
        if len(files) < 2:
            continue
        winner = _winner(path, files)
        for package in files:
            if package is not winner:
                contents[package] = [item for item in contents[package] if _real(item) != path]
        again.setdefault(winner, set()).update(item for item in contents[winner] if _real(item) == path)
    for package, paths in sorted(again.items(), key=lambda item: item[0].name):
        unpack(package, tree, only=paths)


def _winner(path, packages):
    for package in packages:
        others = [other for other in packages if other is not package]
        if all(_replaces(package, other) for other in others):
            return package
    if all(package.stanza.get("Multi-Arch") == "same" and package.name == packages[0].name for package in packages):
        return packages[0]  # the same file, shared by architectures
    names = ", ".join(sorted(package.name for package in packages))
    raise UnpackError("%s is in several packages, and none of them replaces the others: %s" % (path, names))


def _replaces(package, other):
    for clause in package.stanza.get("Replaces", "").split(","):
        name = clause.strip().partition(" ")[0].partition(":")[0]
        if name and (name == other.name or name in _provided(other)):
            return True
    return False


def _provided(package):
    return [item.strip().partition(" ")[0] for item in package.stanza.get("Provides", "").split(",")]
