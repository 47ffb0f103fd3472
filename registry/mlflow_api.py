"""MLflow's REST API, over one small HTTP client.

MLflow's own client costs seconds to import and retries for minutes when its server is away; the
gateway asks every second and has to know within one. What is used here is the documented API
under /api/2.0/mlflow and the artifact route of MLflow's own page, as of MLflow 3.17.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import httpx

from homeostat.addresses import has_certificate
from homeostat.errors import ArtifactError, HomeostatError, SuspectArtifact, Unavailable

API = "/api/2.0/mlflow"
MAX_ANSWER_BYTES = 64 * 1024 * 1024
DOWNLOAD_SECONDS = 600.0  # of one file, however it drips
PLAIN = {"accept-encoding": "identity"}  # what unfolds on arrival cannot be bounded
UPLOADS = "api/2.0/mlflow-artifacts/artifacts"
MISSING = "RESOURCE_DOES_NOT_EXIST"
EXISTS = "RESOURCE_ALREADY_EXISTS"


class MlflowRefused(HomeostatError):
    """MLflow answered with an error of its own; `error_code` is MLflow's word for it."""

    code = "mlflow-refused"

    @property
    def missing(self) -> bool:
        """Whether what was asked for does not exist."""
        return self.fields.get("error_code") == MISSING


class MlflowApi:
    """Calls with a short timeout and no retries: who polls asks again by itself.

    Args:
        url: The server's address; a user and password in it are sent as basic authentication.
        timeout: Seconds for each of connecting, sending and waiting for bytes.
    """

    def __init__(self, url: str, timeout: float = 3.0) -> None:
        self._url = url.rstrip("/")
        # No proxies and no .netrc: what is asked for is this server and no other.
        self._client = httpx.Client(
            base_url=self._url,
            timeout=timeout,
            trust_env=False,
            follow_redirects=False,
            verify=has_certificate(self._url),
        )
        self._patience = httpx.Timeout(timeout, read=60.0)
        self._sending = httpx.Timeout(timeout, read=60.0, write=120.0)

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def get(self, route: str, **query: str | int) -> dict[str, Any]:
        """A reading call.

        Raises:
            Unavailable: the server is away or broken.
            MlflowRefused: it answered that this cannot be.
        """
        return self._call("GET", route, params=query)

    def post(self, route: str, body: dict[str, Any]) -> dict[str, Any]:
        """A writing call; it waits longer, as the server may write slowly. Raises as `get`."""
        return self._call("POST", route, json=body, timeout=self._patience)

    def patch(self, route: str, body: dict[str, Any]) -> dict[str, Any]:
        """A call that changes what is there. Raises as `get`."""
        return self._call("PATCH", route, json=body, timeout=self._patience)

    def delete(self, route: str, body: dict[str, Any]) -> dict[str, Any]:
        """A removing call. Raises as `get`."""
        return self._call("DELETE", route, json=body, timeout=self._patience)

    def download(self, run_id: str, path: str, limit: int) -> bytes:
        """One artifact of a run, through the server's artifact proxy.

        Args:
            run_id: Of the run.
            path: Below the run's artifact folder.
            limit: Bytes, at most.

        Raises:
            Unavailable: the server is away or broken.
            ArtifactError: there is no such artifact.
            SuspectArtifact: it is larger than `limit`.
        """
        query = {"run_id": run_id, "path": path}
        try:
            with self._client.stream(
                "GET", "/get-artifact", params=query, headers=PLAIN, timeout=self._patience
            ) as answer:
                if answer.status_code in (400, 404, 500) and not _away(answer):
                    raise ArtifactError(
                        f"Run {run_id} has no artifact '{path}' in MLflow"
                        f" (HTTP {answer.status_code}).",
                        remedy="Register the version again, or restore MLflow's artifacts.",
                    )
                _refuse_broken(answer)
                content = _read(answer, limit)
        except httpx.HTTPError as error:
            raise self._unavailable(error) from error
        if content is None:
            raise SuspectArtifact(
                f"The artifact '{path}' is larger than the {limit} bytes that it was registered"
                " with.",
                remedy="Do not use it; register the version again.",
            )
        return content

    def upload(self, run: Mapping[str, Any], files: Mapping[str, bytes]) -> None:
        """Put files, by their path below the run's artifacts, where the server keeps them.

        Args:
            run: As MLflow answers it: `info` with `run_id` and `artifact_uri`.
            files: Path to content.

        Raises:
            Unavailable: the server did not take one.
        """
        root = urlsplit(run["info"]["artifact_uri"])
        if root.scheme != "mlflow-artifacts":
            self._upload_directly(str(run["info"]["run_id"]), files)
            return
        for path, content in files.items():
            address = quote(f"{UPLOADS}/{root.path.strip('/')}/{path}")
            try:
                answer = self._client.put(f"/{address}", content=content, timeout=self._sending)
                answer.raise_for_status()
            except httpx.HTTPError as error:
                raise Unavailable(
                    f"MLflow did not take '{path}': {error}.",
                    remedy="See that it runs and that its disk is not full.",
                ) from error

    def _upload_directly(self, run_id: str, files: Mapping[str, bytes]) -> None:
        """Where the server takes no files itself, its own client knows the store (S3, say)."""
        import tempfile

        from mlflow import MlflowClient

        with tempfile.TemporaryDirectory() as folder:
            for path, content in files.items():
                target = Path(folder) / path
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(content)
            MlflowClient(tracking_uri=self._url).log_artifacts(run_id, folder)

    def _call(self, method: str, route: str, **options: Any) -> dict[str, Any]:  # noqa: ANN401 - httpx's own
        try:
            with self._client.stream(method, f"{API}/{route}", headers=PLAIN, **options) as answer:
                body = _read(answer, MAX_ANSWER_BYTES)
        except httpx.HTTPError as error:
            raise self._unavailable(error) from error
        try:
            content: Any = json.loads(body or b"")
        except (ValueError, RecursionError):
            content = None
        # MLflow's own errors carry a code; a proxy's, a login page's or a redirect's do not.
        if not isinstance(content, dict) or (not answer.is_success and "error_code" not in content):
            raise Unavailable(
                f"What answers at {self._client.base_url} is not MLflow"
                f" (HTTP {answer.status_code}).",
                remedy="See that HOMEOSTAT_MLFLOW_URL is MLflow's address.",
            )
        if answer.is_success:
            return content
        if answer.status_code >= 500 or answer.status_code == 429:
            raise Unavailable(
                f"MLflow answers HTTP {answer.status_code}: {content.get('message', '')}",
                remedy="See MLflow's log.",
            )
        raise MlflowRefused(
            f"MLflow refused: {content.get('message', answer.reason_phrase)}",
            remedy="See that the model and version exist in MLflow.",
            error_code=content.get("error_code", ""),
        )

    def _unavailable(self, error: Exception) -> Unavailable:
        return Unavailable(
            f"MLflow does not answer at {self._client.base_url}:"
            f" {str(error) or type(error).__name__}.",
            remedy="See that it runs and that HOMEOSTAT_MLFLOW_URL is its address.",
        )


def _away(answer: httpx.Response) -> bool:
    """A 500 of MLflow itself is JSON: a missing file, say. One of a proxy before it is not."""
    kind = answer.headers.get("content-type", "")
    return answer.status_code == 500 and "json" not in kind and "html" not in kind


def _refuse_broken(answer: httpx.Response) -> None:
    if not answer.is_success:
        raise Unavailable(f"MLflow answers HTTP {answer.status_code}.", remedy="See MLflow's log.")


def _read(answer: httpx.Response, limit: int) -> bytes | None:
    """The body as it came, or None where it is more than `limit` bytes.

    Raises:
        HTTPError: it was cut off, packed though nobody asked for that, or took too long.
    """
    if answer.headers.get("content-encoding", "identity").lower() != "identity":
        raise httpx.DecodingError("it is packed, which was not asked for")
    content = bytearray()
    until = time.monotonic() + DOWNLOAD_SECONDS
    for chunk in answer.iter_raw():
        content += chunk
        if len(content) > limit:
            return None
        if time.monotonic() > until:
            raise httpx.ReadTimeout(f"it took more than {DOWNLOAD_SECONDS:.0f} s")
    return bytes(content)
