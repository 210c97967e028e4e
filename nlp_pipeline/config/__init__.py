"""Recipe files: the schema, reading, overrides and checks."""

from .loading import apply_overrides, build_config, load_config, set_setting, validate
from .schema import Config

__all__ = ["Config", "apply_overrides", "build_config", "load_config", "set_setting", "validate"]
