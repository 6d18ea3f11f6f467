"""The names under which registered versions import systems; they live in `models.system_files` and `models.prompt`."""

from models.prompt import Prompt
from models.system import System
from models.system_files import load_system, save_system

__all__ = ["Prompt", "System", "load_system", "save_system"]
