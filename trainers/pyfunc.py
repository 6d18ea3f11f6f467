"""The MLflow pyfunc of a system (models-from-code): MLflow runs this file where the model is loaded.

Every registered version carries its own copy, so it imports one name only, `trainers.serving.load`, which also says
what goes in and comes out.
"""

from __future__ import annotations

from mlflow.models import set_model
from mlflow.pyfunc import PythonModel


class Speech(PythonModel):  # type: ignore[misc]
    """One loaded system."""

    # MLflow reads type hints of `predict` as a signature and then ignores the one that was registered.
    def load_context(self, context):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN201
        """Load the system."""
        from trainers.serving import load

        self.served = load(context.artifacts["system"])

    def predict(self, context, model_input, params=None):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN201, ARG002
        """Speak or convert every row; ValueError names what is wrong with a row."""
        return self.served.predict(model_input, int((params or {}).get("seed", 0)))


set_model(Speech())
