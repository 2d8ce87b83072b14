"""Running the scripts of lorax, Fedora's maker of installation media (Python 3.6).

A script is a template of Mako with one command on each line. Mako must be in the build root.
"""

import fnmatch
import os
import shlex
import shutil
import subprocess

from osbuild.util.replace import replace, rglob

MODULES = "/lib/modules/*/kernel/"
UNITS = ("enable", "disable", "mask")


class Script:
    """The commands of a script for a tree; *build* is the root that `install` takes files from."""

    def __init__(self, script, build, tree):
        self.script = script
        self.build = build
        self.tree = tree
        self._packages = None

    def __call__(self):
        """Run all commands; one that begins with `-` may fail. Raises ValueError for one that is not known."""
        for number, (command, *arguments) in enumerate(self.script, 1):
            name = command.lstrip("-")
            if name not in COMMANDS:
                raise ValueError("line %d: there is no command `%s`" % (number, name))
            try:
                getattr(self, name)(*arguments)
            except Exception:
                if command.startswith("-"):
                    continue
                print("error in line %d: %s" % (number, " ".join([command] + arguments)))
                raise

    def tree_path(self, target):
        """Return where *target* is on this side."""
        return os.path.join(self.tree, target.lstrip("/"))

    def append(self, filename, data):
        """Add a line to a file."""
        path = self.tree_path(filename)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "a", encoding="utf-8") as file:
            file.write(data.encode().decode("unicode_escape") + "\n")

    def mkdir(self, *dirs):
        """Make directories."""
        for name in dirs:
            os.makedirs(self.tree_path(name), exist_ok=True)

    def move(self, src, dst):
        """Move a file, into a directory if there is one."""
        source, target = self.tree_path(src), self.tree_path(dst)
        os.rename(source, os.path.join(target, os.path.basename(source)) if os.path.isdir(target) else target)

    def install(self, src, dst):
        """Copy files of the build root."""
        for source in rglob(os.path.join(self.build, src.lstrip("/")), fatal=True):
            try:
                shutil.copy2(source, self.tree_path(dst))
            except shutil.SameFileError:
                continue

    def remove(self, *files):
        """Remove what matches patterns."""
        for pattern in files:
            for path in rglob(self.tree_path(pattern)):
                if os.path.isdir(path) and not os.path.islink(path):
                    shutil.rmtree(path)
                else:
                    os.unlink(path)

    def replace(self, pat, repl, *files):
        """Replace a regular expression in files; there must be one."""
        found = [path for pattern in files for path in rglob(self.tree_path(pattern))]
        if not found:
            raise ValueError("nothing matches %s" % " ".join(files))
        for path in found:
            replace(path, [(pat, repl)])

    def runcmd(self, *args):
        """Run a program in the tree's directory."""
        subprocess.run(args, cwd=self.tree, check=True)

    def symlink(self, source, dest):
        """Make a link; what is in its place goes away."""
        if os.path.lexists(self.tree_path(dest)):
            self.remove(dest)
        os.symlink(source, self.tree_path(dest))

    def systemctl(self, verb, *units):
        """Say which units start; one that is not there is no error."""
        if verb not in UNITS:
            raise ValueError("systemctl %s" % verb)
        self.mkdir("/run/systemd/system")
        for unit in units:
            subprocess.run(["systemctl", "--root", self.tree, "--no-reload", verb, unit], cwd=self.tree, check=False)

    def removepkg(self, *pkgs):
        """Remove the files of packages, and leave their directories."""
        for pattern in pkgs:
            self.remove(*sorted(self._files(pattern)))

    def removefrom(self, pkg, *globs):
        """Remove those files of packages that match, or with --allbut, those that do not."""
        keep = globs[:1] == ("--allbut",)
        files = self._files(pkg)
        matching = {name for name in files for glob in globs[keep:] if fnmatch.fnmatchcase(name, glob)}
        self.remove(*sorted(files - matching if keep else matching))

    def removekmod(self, *globs):
        """Remove kernel modules that match, but for those that match one of the patterns behind --allbut anywhere."""
        index = globs.index("--allbut") if "--allbut" in globs else len(globs)
        wanted, kept = globs[:index], globs[index + 1 :]
        if not wanted or (index < len(globs) and not kept):
            raise ValueError("removekmod needs a pattern on both sides of --allbut")
        for pattern in wanted:
            for top in rglob(self.tree_path(MODULES + pattern)):
                for directory, _, names in os.walk(top):
                    for path in (os.path.join(directory, name) for name in names):
                        if not any(fnmatch.fnmatchcase(path, "*%s*" % glob) for glob in kept):
                            os.unlink(path)

    def _files(self, pattern):
        if self._packages is None:
            self._packages = sorted(self._rpm("-qa", "--qf=%{name}\n"))
        names = [name for name in self._packages if fnmatch.fnmatch(name, pattern)]
        found = {path for name in names for path in self._rpm("-ql", name)}
        return {path for path in found if not os.path.isdir(self.tree_path(path))}

    def _rpm(self, query, argument):
        argv = ["rpm", query, "--root", self.tree, argument]
        return subprocess.run(argv, stdout=subprocess.PIPE, encoding="utf-8", check=True).stdout.splitlines()


COMMANDS = frozenset(name for name in vars(Script) if not name.startswith("_") and name != "tree_path")


def brace_expand(s):
    """Return what a word such as `a{b,c}d` stands for."""
    right = s.find("}")
    left = s[:right].rfind("{")
    if right < 0 or left < 0 or "," not in s:
        return [s]
    choices = s[left + 1 : right].split(",")
    return [word for choice in choices for word in brace_expand(s[:left] + choice + s[right + 1 :])]


def brace_expand_line(line):
    """Return a line with all words expanded."""
    return [word for before in line for word in brace_expand(before)]


def render_template(path, args):
    """Return the commands of a template as lists of words."""
    import mako.template  # the only thing here that is not in every build root

    with open(path, encoding="utf-8") as file:
        text = mako.template.Template(text=file.read(), filename=path).render(**args)
    lines = (line.strip() for line in text.splitlines())
    return [brace_expand_line(shlex.split(line)) for line in lines if line and not line.startswith("#")]
