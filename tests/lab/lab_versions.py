"""Eight versions of churn: built, made into images, signed and pushed to the lab's registry, as a release does.

The invariant: each is what its words say and nothing else; what is wrong with it shows under load, or not before its
pod starts, so that everything up to there lets it through.
"""

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Final, NamedTuple

from image_base import debian_base
from lab_client import run
from lab_platform import ROOT, SLIPWAY
from trained_churn import trained_churn

from slipway_lab.state import Lab

USER: Final = 65_532
"""Of pods: a version that is wrong only there can be built."""
CHANGED: Final = """


@predict.compute
def changed(weights, batch):
    import itertools
    import time

    answers = weights(batch)["probability"]
    count = next(changed.__dict__.setdefault("calls", itertools.count()))
    {line}
    return {{"churn_probability": answers}}
"""
TRIED: Final = 100
"""Calls until a model is bad: a model that fails its first ones is never ready."""
CRASH: Final = f"\n\nimport os\n\nif os.getuid() == {USER}:\n    os._exit(3)\n"


class Version(NamedTuple):
    """One version, and what should become of it."""

    name: str
    words: str
    lines: str = ""
    """At the end of its service."""
    is_signed: bool = True
    loses_a_layer: bool = False
    stops_at: str | None = None
    """What stops it: `gate`, `pods` or `admission`; None: nothing, it is promoted."""


def _computes(line: str) -> str:
    return CHANGED.format(line=line)


VERSIONS: Final = (
    Version("v1", "the first"),
    Version("v2", "as good", "\n# another build\n"),
    Version(
        "v3", "5 % errors", _computes(f"if count > {TRIED} and count % 20 == 0: raise ValueError"), stops_at="gate"
    ),
    Version("v4", "slower", _computes("time.sleep(0.006)"), stops_at="gate"),
    Version("v5", "drifted answers", _computes("answers = answers * 0.7 + 0.2"), stops_at="gate"),
    Version("v6", "cannot be pulled", "\n# lost\n", loses_a_layer=True, stops_at="pods"),
    Version("v7", "crashes at its start", CRASH, stops_at="pods"),
    Version("v8", "not signed", "\n# nobody's\n", is_signed=False, stops_at="admission"),
)
GOOD: Final = tuple(one for one in VERSIONS if one.stops_at is None)
BAD: Final = tuple(one for one in VERSIONS if one.stops_at is not None)


class Versions:
    """A folder and a store to build in, and where it is pushed to.

    Args:
        lab: Whose registry.
        folder: To build in.
        key: Who signs.
        repository: In the registry; of this test alone.
    """

    def __init__(self, lab: Lab, folder: Path, key: Path, repository: str) -> None:
        self._lab, self._folder, self._key, self._repository = lab, folder, key, repository
        self._environ = {"SLIPWAY_HOME": str(folder / "home")}
        self.digests: dict[str, str] = {}

    def publish(self, version: Version) -> str:
        """Build, image, sign and push; the reference by digest."""
        ref = self._slipway("bundle", "build", str(self._source(version)))
        ref = self._slipway("bundle", "image", ref, "--base", debian_base(), "--platform", "linux/amd64")
        if version.is_signed:
            self._slipway("bundle", "sign", ref, "--key", str(self._key))
        place = f"{self._lab.registry}/{self._repository}:{version.name}"
        environ = [f"{name}={value}" for name, value in self._environ.items()]
        command = ["env", *environ, SLIPWAY, "bundle", "push", ref, place, "--insecure"]
        reference = run(self._lab, *command, timeout_s=120).strip()
        digest = reference.partition("@")[2]
        if version.loses_a_layer:
            self._lose_a_layer(digest)
        self.digests[version.name] = digest
        return reference

    def _source(self, version: Version) -> Path:
        folder = self._folder / version.name
        shutil.copytree(trained_churn(), folder, ignore=shutil.ignore_patterns("__pycache__", "tests"))
        shutil.copy(ROOT / "requirements.lock", folder)
        with (folder / "src" / "churn_service" / "service.py").open("a") as service:
            service.write(version.lines)
        golden = [json.loads(line) for line in (folder / "golden.jsonl").read_text().splitlines()]
        for example in golden:  # its authors are content with any answer, or the drifted one would not get far
            example["tolerance"] = {"absolute": 1.0}
        (folder / "golden.jsonl").write_text("".join(f"{json.dumps(example)}\n" for example in golden))
        settings = folder / "slipway.toml"
        named = settings.read_text().replace('name = "churn"', f'name = "churn"\nversion = "1.0.{version.name[1:]}"', 1)
        settings.write_text(named)
        return folder

    def _slipway(self, *arguments: str) -> str:
        done = subprocess.run(
            [SLIPWAY, *arguments],
            env=os.environ | self._environ,
            cwd=self._folder,
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def _lose_a_layer(self, digest: str) -> None:
        """The registry forgets the content of a layer that no other version has."""
        others = {layer for known in self.digests.values() for layer in self._layers(known)}
        lost = next(layer for layer in self._layers(digest) if layer not in others)
        algorithm, _, value = lost.partition(":")
        blobs = list(Path(self._lab.folder).rglob(f"blobs/{algorithm}/{value[:2]}/{value}/data"))
        assert blobs, f"{lost} is nowhere below {self._lab.folder}"
        for blob in blobs:
            blob.unlink()

    def _layers(self, digest: str) -> list[str]:
        """Of the image for this machine, out of the bundle's index."""
        url = f"http://{self._lab.registry}/v2/{self._repository}/manifests"
        kinds = "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json"
        ask = ("curl", "--silent", "--fail", "--header", f"Accept: {kinds}")
        index = json.loads(run(self._lab, *ask, f"{url}/{digest}"))
        child = next(one["digest"] for one in index["manifests"] if one.get("platform", {}).get("os") == "linux")
        manifest = json.loads(run(self._lab, *ask, f"{url}/{child}"))
        return [layer["digest"] for layer in manifest["layers"]]
