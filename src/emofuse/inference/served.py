"""What MLflow runs to load a model that :func:`emofuse.inference.serving.save` wrote; it copies this file into it."""

from mlflow.models import set_model

from emofuse.inference.serving import Served

set_model(Served())
