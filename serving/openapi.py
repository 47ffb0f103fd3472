"""The predict route as OpenAPI says it: it is taken before the router, so the router cannot."""

from __future__ import annotations

from typing import Any

from serving.predicting import PREFIX, SUFFIX
from serving.problems import MEDIA_TYPE
from serving.requests import PredictBody, schemas, takes


def complete(document: dict[str, Any]) -> dict[str, Any]:
    """Add the predict route and the bodies' schemas to the document of the router."""
    document["paths"][f"{PREFIX}{{model}}{SUFFIX}"] = _PREDICT
    document.setdefault("components", {}).setdefault("schemas", {}).update(schemas())
    return document


_PREDICT: dict[str, Any] = {
    "post": {
        "tags": ["predictions"],
        "summary": "Predict",
        "description": "One row or many; each answer names version, release and prediction id.",
        "operationId": "predict",
        "parameters": [
            {"name": "model", "in": "path", "required": True, "schema": {"type": "string"}}
        ],
        **takes(PredictBody),
        "responses": {
            "200": {
                "description": "A prediction for each row.",
                "headers": {
                    "X-Homeostat-Version": {"schema": {"type": "integer"}},
                    "X-Homeostat-Generation": {"schema": {"type": "integer"}},
                },
                "content": {
                    "application/json": {
                        "schema": {
                            "type": "object",
                            "required": [
                                "model",
                                "version",
                                "release",
                                "digest",
                                "generation",
                                "predictions",
                            ],
                            "properties": {
                                "model": {"type": "string"},
                                "version": {"type": "integer"},
                                "release": {"type": "string"},
                                "digest": {"type": "string"},
                                "generation": {"type": "integer"},
                                "predictions": {
                                    "type": "array",
                                    "items": {
                                        "type": "object",
                                        "required": ["id", "prediction", "version"],
                                        "properties": {
                                            "id": {"type": "string", "format": "uuid"},
                                            "prediction": {},
                                            "confidence": {"type": "number"},
                                            "version": {"type": "integer"},
                                        },
                                    },
                                },
                            },
                        }
                    }
                },
            },
            "default": {
                "description": "A problem document (RFC 9457) with a stable `code`.",
                "content": {MEDIA_TYPE: {"schema": {"type": "object"}}},
            },
        },
        "security": [{"HTTPBearer": []}],
    }
}
