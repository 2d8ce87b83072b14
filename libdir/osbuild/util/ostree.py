"""The ostree program, and files that go with it (Python 3.6)."""

import collections
import contextlib
import json
import os
import subprocess
import sys
import tempfile


def cli(*args, _input=None, **kwargs):
    """Run `ostree` with arguments and `--key=value` options; its output goes to standard error."""
    command = ["ostree"] + list(args) + ["--%s=%s" % item for item in kwargs.items()]
    sys.stderr.write(" ".join(command) + "\n")
    sys.stderr.flush()
    subprocess.run(command, encoding="utf-8", stdout=sys.stderr, input=_input, check=True)


def _ask(*args):
    done = subprocess.run(
        ["ostree"] + list(args), encoding="utf-8", stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False
    )
    if done.returncode != 0:
        raise RuntimeError(done.stdout.strip())
    return done.stdout.strip()


def rev_parse(repo, ref):
    """Return the commit that *ref* means. Raises RuntimeError."""
    return _ask("rev-parse", ref, "--repo=%s" % os.fsdecode(repo))


def show(repo, checksum):
    """Return what `ostree show` says about a commit. Raises RuntimeError."""
    return _ask("show", "--repo=%s" % os.fsdecode(repo), checksum)


def pull_local(source_repo, target_repo, remote, ref):
    """Copy a commit from one repository into another."""
    cli("pull-local", source_repo, ref, *(["--remote=%s" % remote] if remote else []), repo=target_repo)


def parse_input_commits(commits):
    """Return the repository and the references of an input of commits."""
    refs = commits["data"]["refs"]
    if not refs:
        raise ValueError("an input of commits has at least one")
    return commits["path"], refs


def deployment_path(root, osname="", ref="", serial=None, default=False):
    """Return the directory of a deployment below *root*; *default* means the only one."""
    base = os.path.join(root, "ostree")
    if default:
        found = [
            os.path.join(base, "deploy", name, "deploy", entry)
            for name in sorted(os.listdir(os.path.join(base, "deploy")))
            for entry in sorted(os.listdir(os.path.join(base, "deploy", name, "deploy")))
            if not entry.endswith(".origin")
        ]
        if len(found) != 1:
            raise ValueError("there are %d deployments instead of one" % len(found))
        return found[0]
    commit = rev_parse(os.path.join(base, "repo"), ref)
    return os.path.join(base, "deploy", osname, "deploy", "%s.%s" % (commit, serial))


class Treefile:
    """The settings of `rpm-ostree compose`."""

    TYPES = {
        "ref": str,
        "repos": list,
        "selinux": bool,
        "boot-location": str,
        "etc-group-members": list,
        "machineid-compat": bool,
        "initramfs-args": list,
        "selinux-label-version": int,
    }

    def __init__(self):
        # Both must be there, also in phases that do not use them.
        self._data = {"ref": "osbuild/devel", "repos": ["osbuild"]}

    def __getitem__(self, key):
        if key not in self.TYPES:
            raise ValueError("unknown setting: %s" % key)
        return self._data[key]

    def __setitem__(self, key, value):
        if key not in self.TYPES:
            raise ValueError("unknown setting: %s" % key)
        kind = self.TYPES[key]
        if not isinstance(value, kind) or (kind is list and not all(isinstance(entry, str) for entry in value)):
            raise ValueError("%r is no value for %s" % (value, key))
        self._data[key] = value

    def dumps(self):
        """Return the file's text."""
        return json.dumps(self._data)

    def dump(self, fp):
        """Write the file's text."""
        json.dump(self._data, fp)

    @contextlib.contextmanager
    def as_tmp_file(self):
        """Yield the name of a file with the settings."""
        with tempfile.NamedTemporaryFile("w", suffix=".json", encoding="utf-8") as file:
            self.dump(file)
            file.flush()
            yield file.name


class PasswdLike:
    """Lines that begin with a name and a colon, as in /etc/passwd."""

    def __init__(self):
        self.db = {}

    @classmethod
    def from_file(cls, path, allow_missing_file=False):
        """Read a file."""
        result = cls()
        result.merge_with_file(path, allow_missing_file)
        return result

    def merge_with_file(self, path, allow_missing_file=False):
        """Add the names of a file that are not there yet."""
        if allow_missing_file and not os.path.isfile(path):
            return
        with open(path, encoding="utf-8") as file:
            for line in file:
                self.db.setdefault(line.split(":")[0], line)

    def dump_to_file(self, path):
        """Write all lines."""
        with open(path, "w", encoding="utf-8") as file:
            file.writelines(self.db.values())


class SubIdsDB:
    """Subordinate ids, as in /etc/subuid."""

    def __init__(self):
        self.db = collections.OrderedDict()

    def __bool__(self):
        return bool(self.db)

    def read(self, fp):
        """Add the lines of an open file; returns the index of the last one."""
        lines = list(fp)
        for line in lines:
            parts = line.strip().split(":")
            if len(parts) == 3:
                self.db[parts[0]] = (parts[1], parts[2])
            elif line.strip() and not line.startswith("#"):
                sys.stderr.write("a line that is none of subordinate ids: %s\n" % line.strip())
        return max(0, len(lines) - 1)

    def read_from(self, path):
        """Add the lines of a file."""
        with open(path, encoding="utf-8") as file:
            return self.read(file)

    def dumps(self):
        """Return the file's text."""
        return "".join("%s:%s:%s\n" % (name, first, count) for name, (first, count) in self.db.items())

    def write_to(self, path):
        """Write the file."""
        with open(path, "w", encoding="utf-8") as file:
            file.write(self.dumps())
