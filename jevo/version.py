"""The version of this jevo."""

from importlib import metadata

try:
    __version__ = metadata.version("jevo")
except metadata.PackageNotFoundError:  # A source tree that is not installed.
    __version__ = "0+unknown"
