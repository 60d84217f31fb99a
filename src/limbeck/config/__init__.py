"""A run's config: ``schema`` has its keys, ``reading`` turns YAML into it."""

from limbeck.config.reading import config_from, load_config, training_model, write_config
from limbeck.config.schema import (
    CacheConfig,
    CompareConfig,
    Config,
    DistillationConfig,
    TeacherConfig,
)

__all__ = [
    "CacheConfig",
    "CompareConfig",
    "Config",
    "DistillationConfig",
    "TeacherConfig",
    "config_from",
    "load_config",
    "training_model",
    "write_config",
]
