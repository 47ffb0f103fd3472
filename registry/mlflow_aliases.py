"""What a person sees of a model in MLflow and may move there: aliases, tags, descriptions."""

from __future__ import annotations

from collections.abc import Mapping

from homeostat.errors import UnknownVersion
from registry.mlflow_api import MlflowApi, MlflowRefused


class MlflowAliases:
    """The pointers of one MLflow server.

    Args:
        url: The server's address.
        timeout: Seconds for a reading call; nothing is retried.
    """

    def __init__(self, url: str, timeout: float = 3.0) -> None:
        self._api = MlflowApi(url, timeout)

    def close(self) -> None:
        """Close the connections."""
        self._api.close()

    @property
    def api(self) -> MlflowApi:
        """The server's REST API, for what is about more than versions."""
        return self._api

    def aliases(self, model: str) -> dict[str, int]:
        """Every alias of a model, in one call; empty where there is no such model.

        Raises:
            Unavailable: MLflow is away.
        """
        return self.registered(model) or {}

    def registered(self, model: str) -> dict[str, int] | None:
        """As `aliases`, but None where there is no such model: not yet, or not any more.

        Raises:
            Unavailable: MLflow is away.
        """
        try:
            answer = self._api.get("registered-models/get", name=model)
        except MlflowRefused as error:
            if error.missing:
                return None
            raise
        pairs = answer["registered_model"].get("aliases", [])
        return {pair["alias"]: int(pair["version"]) for pair in pairs}

    def set_alias(self, model: str, alias: str, version: int) -> None:
        """Point an alias at a version.

        Raises:
            UnknownVersion: there is no such version.
            Unavailable: MLflow is away.
        """
        body = {"name": model, "alias": alias, "version": str(version)}
        with known(model, version):
            self._api.post("registered-models/alias", body)

    def delete_alias(self, model: str, alias: str) -> None:
        """Take an alias away; where there is none (or no model), nothing happens.

        Raises:
            Unavailable: MLflow is away.
        """
        try:
            self._api.delete("registered-models/alias", {"name": model, "alias": alias})
        except MlflowRefused as error:
            if not error.missing:
                raise

    def follow(self, model: str, wanted: Mapping[str, int | None]) -> dict[str, int]:
        """Make aliases what a routing wants them to be, and read them again.

        Args:
            model: The registered model's name.
            wanted: Alias to version; None takes the alias away. Others are left alone.

        Returns:
            The aliases as MLflow then answers; where they are not as wanted, somebody else
            moved them in between.

        Raises:
            UnknownVersion: a wanted version is not in MLflow.
            Unavailable: MLflow is away.
        """
        present = self.aliases(model)
        for alias, version in wanted.items():
            if version is None and alias in present:
                self.delete_alias(model, alias)
            elif version is not None and present.get(alias) != version:
                self.set_alias(model, alias, version)
        return self.aliases(model)

    def tag(self, model: str, version: int, tags: Mapping[str, str]) -> None:
        """Set tags of a version.

        Raises:
            UnknownVersion: there is no such version.
            Unavailable: MLflow is away.
        """
        for key, value in tags.items():
            body = {"name": model, "version": str(version), "key": key, "value": value}
            with known(model, version):
                self._api.post("model-versions/set-tag", body)

    def delete_tag(self, model: str, version: int, key: str) -> None:
        """Take a tag of a version away; where there is none, nothing happens.

        Raises:
            UnknownVersion: there is no such version.
            Unavailable: MLflow is away.
        """
        with known(model, version):
            body = {"name": model, "version": str(version), "key": key}
            self._api.delete("model-versions/delete-tag", body)

    def describe(self, model: str, version: int, text: str) -> None:
        """Replace the description of a version: Markdown, at most 5,000 characters.

        Raises:
            UnknownVersion: there is no such version.
            Unavailable: MLflow is away.
        """
        body = {"name": model, "version": str(version), "description": text}
        with known(model, version):
            self._api.patch("model-versions/update", body)


class known:  # noqa: N801 - used as a statement: with _known(model, version)
    """Turn MLflow's word for a missing version into ours."""

    def __init__(self, model: str, version: int) -> None:
        self._model, self._version = model, version

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        if isinstance(error, MlflowRefused) and error.missing:
            raise UnknownVersion(
                f"MLflow has no version {self._version} of '{self._model}'.",
                remedy="List the versions to find one.",
                model=self._model,
                version=self._version,
            ) from error
