"""What the router cannot say in OpenAPI: the routes that it does not know as FastAPI's."""

from __future__ import annotations

from typing import Any, get_args

from serving import oip
from serving.answers import Reason
from serving.predicting import PREFIX, SUFFIX
from serving.problems import MEDIA_TYPE
from serving.requests import PredictBody, schemas, takes


def complete(document: dict[str, Any]) -> dict[str, Any]:
    """Add the predict route and the bodies' schemas to the document of the router."""
    document["paths"][f"{PREFIX}{{model}}{SUFFIX}"] = _PREDICT
    document["paths"][f"{oip.MODEL}/infer"] = _infer("infer", "model")
    document["paths"][f"{oip.VERSION}/infer"] = _infer("infer_version", "model", "version")
    document.setdefault("components", {}).setdefault("schemas", {}).update(schemas())
    for path, operations in document["paths"].items():
        error = _OIP_ERROR if path.startswith("/v2") else _PROBLEM
        for operation in operations.values():
            operation["responses"].pop("422", None)  # FastAPI's own shape, which nobody gets
            operation["responses"].setdefault("default", error)
    return document


_PROBLEM: dict[str, Any] = {
    "description": "A problem document (RFC 9457).",
    "content": {
        MEDIA_TYPE: {
            "schema": {
                "type": "object",
                "required": ["type", "code", "title", "status", "detail", "remedy"],
                "properties": {
                    "type": {"type": "string"},
                    "code": {"type": "string"},
                    "title": {"type": "string"},
                    "status": {"type": "integer"},
                    "detail": {"type": "string"},
                    "remedy": {"type": "string"},
                },
            }
        }
    },
}
_OIP_ERROR: dict[str, Any] = {
    "description": "The protocol's error, with the fields of a problem.",
    "content": {
        "application/json": {
            "schema": {
                "type": "object",
                "required": ["error"],
                "properties": {"error": {"type": "string"}, "code": {"type": "string"}},
            }
        }
    },
}


_PREDICT: dict[str, Any] = {
    "post": {
        "tags": ["predictions"],
        "summary": "Predict",
        "description": "One row or many; each answer names version, release and prediction id.",
        "operationId": "predict",
        "parameters": [
            {"name": "model", "in": "path", "required": True, "schema": {"type": "string"}},
            {
                "name": "X-Homeostat-Version",
                "in": "header",
                "description": "The version that is to answer.",
                "schema": {"type": "integer", "minimum": 1, "maximum": 999_999_999},
            },
            {
                "name": "Idempotency-Key",
                "in": "header",
                "description": "The same key and body again get the same answer, logged once: by"
                " this gateway process, for 10 minutes.",
                "schema": {"type": "string", "minLength": 1, "maxLength": 200},
            },
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
                                "reason",
                                "predictions",
                            ],
                            "properties": {
                                "model": {"type": "string"},
                                "version": {"type": "integer"},
                                "release": {"type": "string"},
                                "digest": {"type": "string"},
                                "generation": {"type": "integer"},
                                "reason": {"enum": list(get_args(Reason))},
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
        },
        "security": [{"HTTPBearer": []}],
    }
}


def _infer(operation: str, *parameters: str) -> dict[str, Any]:
    tensor = {
        "type": "object",
        "required": ["name", "shape", "datatype"],
        "properties": {
            "name": {"type": "string"},
            "shape": {"type": "array", "items": {"type": "integer", "minimum": 0}},
            "datatype": {"type": "string"},
            "parameters": {"type": "object"},
            "data": {"type": "array"},
        },
    }
    asked = {
        "type": "object",
        "required": ["inputs"],
        "properties": {
            "id": {"type": "string"},
            "parameters": {"type": "object"},
            "inputs": {"type": "array", "items": tensor},
            "outputs": {
                "type": "array",
                "items": {
                    "type": "object",
                    "required": ["name"],
                    "properties": {"name": {"type": "string"}, "parameters": {"type": "object"}},
                },
            },
        },
    }
    answered = {
        "type": "object",
        "required": ["model_name", "model_version", "parameters", "outputs"],
        "properties": {
            "model_name": {"type": "string"},
            "model_version": {"type": "string"},
            "id": {"type": "string"},
            "parameters": {"type": "object"},
            "outputs": {"type": "array", "items": tensor},
        },
    }
    binary = {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}
    return {
        "post": {
            "tags": ["open inference protocol"],
            "summary": "Infer",
            "description": "Tensors in, tensors out; as bytes too (binary tensor data extension).",
            "operationId": operation,
            "parameters": [
                *(
                    {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
                    for name in parameters
                ),
                {
                    "name": "Inference-Header-Content-Length",
                    "in": "header",
                    "description": "How many bytes of the body are JSON, where bytes follow.",
                    "schema": {"type": "integer", "minimum": 0},
                },
            ],
            "requestBody": {
                "required": True,
                "content": {"application/json": {"schema": asked}, **binary},
            },
            "responses": {
                "200": {
                    "description": "A value of each output for each row.",
                    "content": {"application/json": {"schema": answered}, **binary},
                },
            },
            "security": [{"HTTPBearer": []}],
        }
    }
