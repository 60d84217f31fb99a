"""A run's config: its keys, and the way from YAML to a checked ``Config`` and back.

This room may import every room below ``run``, and imports those whose sections a config holds. Its files: ``schema`` has the
keys with their types, defaults and meaning, ``training_arguments`` those of the ``training`` sections, ``reading`` reads and
writes YAML, ``faults`` says what is wrong with a config and on which line.
"""

from limbeck.config.reading import config_from, load_config, write_config
from limbeck.config.schema import (
    CacheConfig,
    CompareConfig,
    Config,
    DistillationConfig,
    TeacherConfig,
)
from limbeck.config.training_arguments import training_arguments_schema

__all__ = [
    "CacheConfig",
    "CompareConfig",
    "Config",
    "DistillationConfig",
    "TeacherConfig",
    "config_from",
    "load_config",
    "training_arguments_schema",
    "write_config",
]
