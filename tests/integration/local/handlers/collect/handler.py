from tests.integration.local.handlers.recorder import handler

__all__ = ["handler"]
