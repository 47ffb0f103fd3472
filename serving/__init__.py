"""What answers: the gateway and its controller."""

from serving.app import create_app
from serving.gateway import Gateway

__all__ = ["Gateway", "create_app"]
