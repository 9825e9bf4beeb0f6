"""What a home does, as numbers for Prometheus: `mnemoduck metrics`, and docs/monitoring.md."""

from mnemoduck.metrics.collecting import HomeCollector, home_registry
from mnemoduck.metrics.names import METRICS, MetricSpec
from mnemoduck.metrics.serving import MetricsServer, parse_address, write_textfile

__all__ = [
    "METRICS",
    "HomeCollector",
    "MetricSpec",
    "MetricsServer",
    "home_registry",
    "parse_address",
    "write_textfile",
]
