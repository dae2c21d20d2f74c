"""Stack files of `platform/services`: reading which image a service has in an environment, and writing another one.

It knows Pulumi's file by shape and runs no Pulumi. The invariant: of a file that a person wrote one scalar changes;
comments, order and spelling of everything else stay byte for byte, and the changed file is parsed again and compared
before it is written.

    config:
      slipway-services:namespace: shop
      slipway-services:services:
        - name: churn
          image: registry.example.com/churn@sha256:…
"""

import re
from pathlib import Path
from typing import Any, Final

import yaml
from msgspec import Struct

from slipway_bundle.digest import Digest
from slipway_bundle.disk import write_file
from slipway_bundle.errors import ConfigError, FileError, UsageError

__all__ = ["ServiceImage", "StackFile", "load_stack", "stack_path"]

PROJECT: Final = "slipway-services"
SERVICES: Final = f"{PROJECT}:services"
NAMESPACE: Final = f"{PROJECT}:namespace"

_ENVIRONMENT: Final = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}\Z")
_IMAGE: Final = re.compile(r"(?P<place>[^@\s\"'#,\[\]{}]+)@(?P<digest>sha256:[0-9a-f]{64})\Z")


class ServiceImage(Struct, frozen=True, kw_only=True):
    """What a service runs in an environment."""

    place: str
    """`HOST/REPOSITORY`."""

    digest: Digest
    """Of a bundle's index."""

    @property
    def text(self) -> str:
        """As the stack file and Kubernetes write it."""
        return f"{self.place}@{self.digest}"


class StackFile(Struct, frozen=True, kw_only=True):
    """A `Pulumi.ENVIRONMENT.yaml` that was read."""

    path: Path
    environment: str
    text: str

    @property
    def namespace(self) -> str:
        """Of its services. Raises ConfigError: the file does not say it."""
        found = _config(yaml.safe_load(self.text), self.path).get(NAMESPACE)
        if not isinstance(found, str):
            raise ConfigError(f"{str(self.path)!r} has no `{NAMESPACE}`, expected a name", path=str(self.path))
        return found

    def image(self, service: str) -> ServiceImage:
        """What `service` runs.

        Raises:
            UsageError: It is not in the file.
            ConfigError: Its image is not named by digest.
        """
        value = self._node(service).value
        found = _IMAGE.match(value)
        if found is None:
            raise ConfigError(
                f"`image` of {service!r} in {str(self.path)!r} names no digest: got {value!r}, expected "
                "HOST/REPOSITORY@sha256:…",
                path=str(self.path),
            )
        return ServiceImage(place=found["place"], digest=Digest(found["digest"]))

    def with_image(self, service: str, image: ServiceImage) -> str:
        """The text of the file in which `service` runs `image`; nothing is written.

        Raises:
            UsageError: It is not in the file.
            ConfigError: More than this one value would change; this is a bug in slipway.
        """
        node = self._node(service)
        quote = node.style if node.style in {'"', "'"} else ""
        changed = f"{self.text[: node.start_mark.index]}{quote}{image.text}{quote}{self.text[node.end_mark.index :]}"
        expected = yaml.safe_load(self.text)
        next(one for one in expected["config"][SERVICES] if one.get("name") == service)["image"] = image.text
        if _IMAGE.match(image.text) is None or _parsed(changed) != expected:
            raise ConfigError(
                f"{str(self.path)!r} cannot be changed without changing more than `image` of {service!r}",
                hint="write the image on one line, plain or in quotes, without an anchor",
                path=str(self.path),
            )
        return changed

    def write(self, text: str) -> None:
        """Replace the file in one step. Raises FileError."""
        try:
            write_file(self.path, text.encode(), through=self.path.parent, mode=self.path.stat().st_mode & 0o777)
        except OSError as error:
            raise FileError(f"{str(self.path)!r} cannot be written: {error.strerror}", path=str(self.path)) from error

    def _node(self, service: str) -> Any:
        """The scalar node of the service's image: with the place where it stands in the text."""
        services = _config(yaml.safe_load(self.text), self.path).get(SERVICES)
        names = [one.get("name") for one in services if isinstance(one, dict)] if isinstance(services, list) else []
        if names.count(service) != 1:
            known = ", ".join(str(name) for name in names) or "none"
            problem = "twice" if service in names else "not"
            raise UsageError(
                f"service {service!r} is {problem} in `{SERVICES}` of {str(self.path)!r}, expected one of {known}",
                hint="a service gets its first image by hand; docs/release.md",
                service=service,
            )
        root = yaml.compose(self.text, Loader=yaml.SafeLoader)
        entries = _value(_value(root, "config"), SERVICES).value
        node = _value(entries[names.index(service)], "image")
        if not isinstance(node, yaml.ScalarNode):
            raise ConfigError(f"`image` of {service!r} in {str(self.path)!r} is no text", path=str(self.path))
        return node


def _parsed(text: str) -> object:
    """None where it is no YAML any more: an anchor was in what was replaced."""
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        return None


def stack_path(folder: Path, environment: str) -> Path:
    """Where the stack file of an environment is.

    Raises:
        UsageError: The environment's name could be a path.
    """
    if _ENVIRONMENT.match(environment) is None:
        raise UsageError(f"{environment!r} is no environment, expected small letters and digits, as in 'staging'")
    return folder / f"Pulumi.{environment}.yaml"


def load_stack(folder: Path, environment: str) -> StackFile:
    """The stack file of an environment.

    Raises:
        UsageError: There is none.
        ConfigError: It is not YAML, or no stack file.
        FileError: It cannot be read.
    """
    path = stack_path(folder, environment)
    try:
        text = path.read_bytes().decode()
    except FileNotFoundError:
        known = ", ".join(sorted(one.name.split(".")[1] for one in folder.glob("Pulumi.*.yaml"))) or "none"
        raise UsageError(
            f"there is no environment {environment!r}: {str(path)!r} is missing, expected one of {known}",
            hint="`--stacks FOLDER` says where stack files are",
            path=str(path),
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is no text"
        raise FileError(f"{str(path)!r} cannot be read: {reason}", path=str(path)) from error
    try:
        _config(yaml.safe_load(text), path)
    except yaml.YAMLError as error:
        raise ConfigError(f"{str(path)!r} is not YAML: {error}", path=str(path)) from error
    return StackFile(path=path, environment=environment, text=text)


def _config(document: object, path: Path) -> dict[str, Any]:
    config = document.get("config") if isinstance(document, dict) else None
    if not isinstance(config, dict):
        raise ConfigError(f"{str(path)!r} is no stack file: expected a mapping `config`", path=str(path))
    return config


def _value(node: Any, key: str) -> Any:
    found = [value for name, value in getattr(node, "value", ()) if getattr(name, "value", None) == key]
    if not found:
        raise ConfigError(f"a stack file has no `{key}`, expected one")
    return found[-1]
