"""Unpacking many packages into one tree at the same time.

dpkg unpacks one package after the other, so that later ones can take over files of earlier ones. Here worker
processes unpack them straight into the tree. What depends on their order is settled when all are done: directories
get their owners, modes and times, and a path that several packages bring goes to the one that Replaces the others,
as dpkg does it. Nobody may read the tree meanwhile.
"""

import errno
import os
import stat
from concurrent.futures import ProcessPoolExecutor, as_completed

MERGED_DIRECTORIES = ("bin", "sbin", "lib", "lib32", "lib64", "libx32")
ROOT_LINKS = ("bin", "sbin", "lib")
FIRST = "base-files"  # brings links that directories of others must not come before, such as /var/run
PLAIN_DIRECTORY = (0o755, 0, 0)


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


def unpack_all(packages, tree, jobs, progress, fresh=True):
    """Unpack *packages* and return {package: list of paths as in the archive}; *progress* gets each package.

    Unless the tree is *fresh*, directories that were there before keep their owner, mode and time.
    """
    members = {}
    for package in packages:
        if package.name == FIRST:
            members[package] = unpack(package, tree)
            progress(package)
    # The largest first, so that no worker begins a long one when the others have nothing left to do.
    rest = sorted((package for package in packages if package not in members), key=lambda item: -item.data_bytes)
    with ProcessPoolExecutor(jobs) as pool:
        futures = {pool.submit(unpack, package, tree): package for package in rest}
        try:
            for future in as_completed(futures):
                members[futures[future]] = future.result()
                progress(futures[future])
        finally:
            for future in futures:
                future.cancel()
    contents = {package: [path for path, _ in members[package]] for package in packages}
    owners = {}
    for package in sorted(packages, key=lambda item: (item.name != FIRST, item.name, item.info_name)):
        for path, directory in members[package]:
            owners.setdefault(real(path), []).append((package, directory))
    _settle_files(owners, contents, tree)
    _settle_directories(owners, tree, fresh)
    return contents


def unpack(package, tree, only=None):
    """Unpack one package, or *only* some of its paths in place of others'.

    Return [(path, None, or (mode, uid, gid, mtime, whether it was made) of a directory)]; directories get these when
    all is unpacked.
    """
    conffiles, root = set(package.conffiles), os.path.realpath(tree) + "/"
    paths, parents = [], set()
    with package.data() as archive:
        for member in archive:
            path = listed(member.name, package)
            linked = listed(member.linkname, package) if member.islnk() else None
            if only is not None and path not in only and linked not in only:
                continue
            directory = (member.mode & 0o7777, member.uid, member.gid, member.mtime) if member.isdir() else None
            paths.append((path, directory))
            target = tree + real(path)
            if os.path.dirname(target) not in parents:
                parent = os.path.realpath(os.path.dirname(target))
                if not (parent + "/").startswith(root):
                    raise UnpackError("%s: the path %s leaves the tree through a link" % (package.name, path))
                os.makedirs(parent, mode=0o755, exist_ok=True)
                parents.add(os.path.dirname(target))
            try:
                if directory:
                    paths[-1] = (path, (*directory, _make_directory(target)))
                    continue
                target += ".dpkg-new" if path in conffiles else ""
                if only is not None and os.path.lexists(target):
                    os.unlink(target)
                source = linked and tree + real(linked) + (".dpkg-new" if linked in conffiles else "")
                _create(archive, member, target, source)
            except FileExistsError:
                if directory or (os.path.isdir(target) and not os.path.islink(target)):
                    raise UnpackError("%s is a directory in one package and a file in another" % target) from None
                # Another package brings it too: which of them shall have it is decided when all are unpacked.
            except FileNotFoundError:
                if linked is None:
                    raise
                raise UnpackError("%s: the hard link %s leads nowhere" % (package.name, path)) from None
    return paths


def _make_directory(target):
    """Make a directory; return False if it is there already."""
    try:
        os.mkdir(target, 0o755)
    except FileExistsError:
        if not os.path.isdir(target):
            raise
        return False
    return True


def listed(name, package):
    """Return a member's path as dpkg lists it. Raises UnpackError."""
    path = os.path.normpath("/" + name)
    if path.startswith("//"):
        path = path[1:]
    if ".." in name.split("/"):
        raise UnpackError("%s: the path %s leaves the tree" % (package.name, name))
    return "/." if path == "/" else path


def real(path):
    """Return where *path* is in a tree whose /bin, /lib and so on are links."""
    head, _, rest = path[1:].partition("/")
    return "/usr" + path if rest and head in MERGED_DIRECTORIES else path


def _create(archive, member, target, source):
    if member.issym():
        os.symlink(member.linkname, target)
        os.lchown(target, member.uid, member.gid)
        os.utime(target, (member.mtime, member.mtime), follow_symlinks=False)
        return
    if source is not None:
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
    os.utime(target, (member.mtime, member.mtime))


def _settle_files(owners, contents, tree):
    """Give each path that several packages bring to the one that replaces the others."""
    again = {}
    for path, entries in sorted(owners.items()):
        packages = [package for package, directory in entries if directory is None]
        if len(packages) < 2:
            continue
        winner = _winner(path, packages)
        for package in packages:
            if package.name != winner.name:
                contents[package] = [item for item in contents[package] if real(item) != path]
        again.setdefault(winner, set()).update(item for item in contents[winner] if real(item) == path)
    for package, paths in sorted(again.items(), key=lambda item: item[0].name):
        unpack(package, tree, only=paths)


def _settle_directories(owners, tree, fresh):
    """Set owner, mode and time of each directory: those of the first package that asks for something special."""
    for path, entries in owners.items():
        wishes = [directory for _, directory in entries if directory is not None]
        target = tree + path
        if not wishes or path == "/." or os.path.islink(target) or not (fresh or any(wish[4] for wish in wishes)):
            continue
        mode, uid, gid = next((wish for wish in wishes if wish[:3] != PLAIN_DIRECTORY), wishes[0])[:3]
        mtime = max(wish[3] for wish in wishes)
        os.chown(target, uid, gid)
        os.chmod(target, mode)
        os.utime(target, (mtime, mtime))


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
