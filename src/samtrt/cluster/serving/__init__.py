"""A server with replicas on a Ray cluster. Needs the extras `ray` and `server`."""

from importlib import import_module
from importlib.util import find_spec

from samtrt.errors import MissingExtraError

if find_spec("ray") is None:
    raise MissingExtraError("serve --ray", "ray", "ray")
import_module("samtrt.server")  # names its own extra
