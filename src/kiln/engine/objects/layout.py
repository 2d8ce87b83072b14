"""Where things are in an object store.

    <store>/
      CACHEDIR.TAG                        backup programs leave the directory out
      overlay-works.<boot id>             trees can be layers on this disk
      cache.info                          the largest size of the store, if somebody has set one
      store.lock                          shared by every process that uses the store
      objects/<key>/                      complete objects; a name appears here by rename(2) only
          object.json                     `ObjectRecord`: key, base, layers from the bottom to the top
          layer/                          what this stage changed (an overlay layer), or with one layer the whole tree
          metadata.json                   what the stage reported about itself, if anything
          content-id                      the content id, once somebody has asked for it
          layer-digest                    the digest of the layer's stream, once it was sent, exported or imported
          size                            bytes on the disk, once somebody has measured it
      pending/<key>.<boot id>             objects that may not be on disk yet; after a crash of the machine (another
                                          boot id) they are dropped, so that commit need not wait for the disk
      working/<session>/                  one for each process
          lock                            held as long as the process lives; whoever gets it may clear the directory
          pins/<key>                      objects that the process uses: they and their layers are not evicted
          <n>/{object/layer,work,tree,var}  trees that are being made
          view-<n>/                       mount points for reading
      pins.lock                           shared while a pin is made, held alone while objects are evicted
      working.lock                        held while a session is made or a dead one is taken away
      locks/<3 digits of the key>         who holds it builds the object
      trash/                              renamed here in O(1), deleted later by a process of low priority
      quarantine/                         objects and sources that `kiln store fsck` found damaged, to be looked at
      collector.lock                      held by that process
      empty/                              the bottom of every stack of layers
      reruns/<8 digits>                   notes by which the same command is answered again (see kiln.engine.rerun)
      validated/<digest>                  manifests that their schemas have accepted
      sources/org.osbuild.files/<algorithm>:<hex>   files by digest, as in osbuild

All of it is one file system: layers, working trees and sources are renamed and hard-linked into each other.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

CACHEDIR_TAG: Final = b"Signature: 8a477f597d28d172789f06886806bc55\n"
FILES: Final = "org.osbuild.files"
LAYER_DIGEST: Final = "layer-digest"


@dataclass(frozen=True, slots=True)
class Layout:
    """The paths of one store."""

    root: Path

    @property
    def objects(self) -> Path:
        """Complete objects."""
        return self.root / "objects"

    @property
    def pending(self) -> Path:
        """Marks of objects that may not be on disk yet."""
        return self.root / "pending"

    @property
    def working(self) -> Path:
        """Directories of the processes that use the store."""
        return self.root / "working"

    @property
    def locks(self) -> Path:
        """Locks of keys."""
        return self.root / "locks"

    @property
    def trash(self) -> Path:
        """What is to be deleted."""
        return self.root / "trash"

    @property
    def quarantine(self) -> Path:
        """What was found damaged."""
        return self.root / "quarantine"

    @property
    def empty(self) -> Path:
        """An empty directory."""
        return self.root / "empty"

    @property
    def validated(self) -> Path:
        """Digests of manifests that were found valid."""
        return self.root / "validated"

    @property
    def files(self) -> Path:
        """Source files by digest."""
        return self.root / "sources" / FILES

    def object(self, key: str) -> Path:
        """The directory of an object."""
        return self.objects / key

    def layer(self, key: str) -> Path:
        """The layer of an object."""
        return self.objects / key / "layer"

    def make(self) -> None:
        """Create what is missing. Raises OSError."""
        folders = (self.objects, self.pending, self.working, self.locks, self.trash, self.empty, self.validated)
        if all(folder.is_dir() for folder in folders) and self.files.is_dir():
            return
        for folder in (*folders, self.files):
            folder.mkdir(parents=True, exist_ok=True)
        self.objects.chmod(0o700)  # trees hold set-user-id programs and password files
        self.working.chmod(0o700)
        (self.root / "CACHEDIR.TAG").write_bytes(CACHEDIR_TAG)
