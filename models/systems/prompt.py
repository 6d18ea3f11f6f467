"""The name under which registered versions import `Prompt`; it lives in `models.prompt`."""

from models.prompt import Prompt

__all__ = ["Prompt"]
