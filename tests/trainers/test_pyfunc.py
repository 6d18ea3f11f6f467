"""What the pyfunc reads from a table before it speaks; its life inside MLflow is tested with `assemble`."""

from __future__ import annotations

import pandas as pd
import pytest

from trainers.pyfunc import _prompts, _texts


def test_a_row_without_text_is_named() -> None:
    assert _texts(pd.DataFrame({"text": ["one", "two"]})) == ["one", "two"]
    for bad in (None, float("nan"), " "):
        with pytest.raises(ValueError, match="row 1 has no text"):
            _texts(pd.DataFrame({"text": ["one", bad]}))


def test_rows_without_a_prompt_have_none() -> None:
    rows = pd.DataFrame({"text": ["one", "two"], "prompt": [None, float("nan")]})
    assert _prompts(rows) == [None, None]
