"""Running the maintainer scripts of unpacked packages, as dpkg would, in a tree that is not running."""

import os
import subprocess

INACTIVE_PROGRAMS = (
    "/usr/sbin/start-stop-daemon",  # nothing may start while an image is built
    "/usr/sbin/update-initramfs",  # made once, by its own stage, when the configuration is complete
    "/usr/bin/mandb",  # its index depends on the order of files; a booted system makes it when it is idle
)
POLICY = "usr/sbin/policy-rc.d"
ENVIRONMENT = {
    "DEBIAN_FRONTEND": "noninteractive",
    "DEBCONF_NONINTERACTIVE_SEEN": "true",
    "DEBCONF_NOWARNINGS": "yes",
    "UCF_FORCE_CONFFNEW": "1",
    "INITRD": "No",
}
RUN_PREINST = """\
preinst() {
    DPKG_MAINTSCRIPT_PACKAGE=$1 DPKG_MAINTSCRIPT_ARCH=$2 "/var/lib/dpkg/info/$3.preinst" install && return
    echo >&2 "the preinst of $1 failed"
    exit 1
}"""
DPKG_OPTIONS = ("--force-unsafe-io", "--log=/dev/null")


class Policy:
    """Keeps maintainer scripts from starting services (policy-rc.d(8)) while the block runs."""

    def __init__(self, tree):
        self._path = os.path.join(tree, POLICY)
        self._old = self._path + ".kept"

    def __enter__(self):
        if os.path.lexists(self._path):  # the tree has a policy of its own, as images of containers do
            os.rename(self._path, self._old)
        os.makedirs(os.path.dirname(self._path), exist_ok=True)
        with open(self._path, "w", encoding="utf-8") as file:
            file.write("#!/bin/sh\nexit 101\n")
        os.chmod(self._path, 0o755)
        return self

    def __exit__(self, *_):
        os.unlink(self._path)
        if os.path.lexists(self._old):
            os.rename(self._old, self._path)


def preinst(packages, root, dpkg_version):
    """Run `preinst install` of each package; base-passwd first, since others look accounts up."""
    ordered = sorted(packages, key=lambda package: (package.name != "base-passwd", package.name))
    if not ordered:
        return
    lines = [RUN_PREINST]
    for package in ordered:
        if "preinst" in package.control_files:
            lines.append("preinst %s %s %s" % (package.name, package.stanza["Architecture"], package.info_name))
    environment = dict(
        ENVIRONMENT,
        DPKG_MAINTSCRIPT_NAME="preinst",
        DPKG_MAINTSCRIPT_PACKAGE_REFCOUNT="1",
        DPKG_MAINTSCRIPT_DEBUG="0",
        DPKG_RUNNING_VERSION=dpkg_version,
        DPKG_ADMINDIR="/var/lib/dpkg",
        DPKG_ROOT="",
    )
    root.run(["/bin/sh", "-c", "\n".join(lines)], env=environment)


def configure(root, packages, progress):
    """Configure everything that is unpacked; *progress* gets the name of each package as it becomes installed.

    What every system has comes first, as with debootstrap: scripts use it without saying so (Debian policy, 3.8), such
    as /etc/login.defs and the shadow files. Then what others pre-depend on: they would be unpacked when it is
    configured (policy, 7.2).
    """
    graph = _Graph(packages)
    basis = graph.closure(filter(_is_basic, packages))
    before = graph.closure(graph.pre_depended(packages)) - basis
    for group in (basis, before):
        if group:
            _run(root, sorted(package.info_name for package in group), progress)
    _run(root, ["-a"], progress)
    root.run(["dpkg", *DPKG_OPTIONS, "--triggers-only", "-a"], env=ENVIRONMENT)
    audit = root.run(["dpkg", "--audit"], stdout=subprocess.PIPE)
    if audit.stdout.strip():
        raise RuntimeError("packages are not completely installed:\n" + audit.stdout.decode("utf-8", "replace"))


def _is_basic(package):
    stanza = package.stanza
    return stanza.get("Essential") == "yes" or stanza.get("Priority") == "required" or package.name == "apt"


class _Graph:
    """Who depends on whom among some packages; every one that provides a name counts."""

    def __init__(self, packages):
        self._providers = {}
        for package in packages:
            for name in [package.name, *_names(package.stanza.get("Provides", ""))]:
                self._providers.setdefault(name, []).append(package)

    def pre_depended(self, packages):
        """Return the packages on which others pre-depend."""
        return {found for package in packages for found in self._of(package, "Pre-Depends")}

    def closure(self, packages):
        """Return *packages* and everything that they depend on."""
        pending = list(packages)
        found = set(pending)
        while pending:
            package = pending.pop()
            for other in [*self._of(package, "Pre-Depends"), *self._of(package, "Depends")]:
                if other not in found:
                    found.add(other)
                    pending.append(other)
        return found

    def _of(self, package, field):
        for name in _names(package.stanza.get(field, "")):
            yield from self._providers.get(name, ())


def _names(field):
    """Return the names in a relation, without versions and architectures."""
    words = (word.strip().partition(" ")[0] for clause in field.split(",") for word in clause.split("|"))
    return [word.partition("(")[0].partition(":")[0] for word in words if word]


def _run(root, names, progress):
    reader, writer = os.pipe()
    argv = ["dpkg", *DPKG_OPTIONS, "--status-fd", str(writer), "--configure", *names]
    with root.popen(argv, env=ENVIRONMENT, pass_fds=(writer,)) as process:
        os.close(writer)
        with os.fdopen(reader, encoding="utf-8", errors="replace") as stream:
            for line in stream:
                words = line.split(": ")
                if words[0] == "status" and len(words) >= 3 and words[2].strip() == "installed":
                    progress(words[1])
    if process.returncode != 0:
        raise subprocess.CalledProcessError(process.returncode, argv)
