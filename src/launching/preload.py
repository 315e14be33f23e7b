"""Imported once by the fork server: what every run needs. It must only import: threads do not survive a fork."""

import os

from src.launching.isolated import PRELOAD_VARIABLE, import_all

import_all([path for path in os.environ.get(PRELOAD_VARIABLE, "").split(",") if path])
