"""Versions: what MLflow holds of a model, and the local copies that outlive its absence.

A version is tied to its artifact by the digest that it is registered with, and to the work that
made it by a work key: the same work registers once, however often it is killed and run again.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from homeostat.errors import ArtifactError, Unavailable, UnknownVersion
from registry.cache import ArtifactCache
from registry.mlflow_aliases import MlflowAliases, known
from registry.mlflow_api import EXISTS, MlflowRefused
from registry.version_info import DIGEST_TAG, WORK_TAG, VersionInfo, read_version

__all__ = ["DIGEST_TAG", "WORK_TAG", "MlflowVersions", "VersionInfo"]

PAGE = 1000


class MlflowVersions(MlflowAliases):
    """The registered models of one MLflow server.

    Args:
        url: The server's address.
        timeout: Seconds for a reading call; nothing is retried.
    """

    def register(
        self,
        model: str,
        run_id: str,
        artifact: str,
        digest: str,
        work_key: str,
        tags: Mapping[str, str] | None = None,
        description: str = "",
    ) -> int:
        """Make a version of a run's artifact folder; the same `work_key` gives the same version.

        Of two that register the same work at once the lower number stays and the other is
        deleted by whoever sees both.

        Args:
            model: The registered model's name; made where it is new.
            run_id: The MLflow run that holds the artifact.
            artifact: The folder below the run's artifacts: `model`.
            digest: Of that folder, as `models.artifact` gave it.
            work_key: Of the work that made it; at most 5,000 characters.
            tags: More tags.
            description: In Markdown, for MLflow's page.

        Raises:
            Unavailable: MLflow is away.
            MlflowRefused: there is no such run, or MLflow forbids it.
        """
        self._ensure_model(model)
        found = self._of_work(model, work_key)
        if not found:
            run = self._api.get("runs/get", run_id=run_id)["run"]
            every = dict(tags or {}) | {DIGEST_TAG: digest, WORK_TAG: work_key}
            self._api.post(
                "model-versions/create",
                {
                    "name": model,
                    "source": f"{run['info']['artifact_uri'].rstrip('/')}/{artifact}",
                    "run_id": run_id,
                    "description": description,
                    "tags": [{"key": key, "value": value} for key, value in every.items()],
                },
            )
            found = self._of_work(model, work_key)
        self._drop_doubles(model, found)
        return found[0]

    def models_of(self, run_id: str) -> list[str]:
        """The names of the models that have a version of a run.

        Raises:
            Unavailable: MLflow is away.
        """
        if not run_id:
            return []
        return sorted({info.model for info in self._search(f"run_id = '{_quoted(run_id)}'")})

    def drop(self, model: str, version: int) -> None:
        """Delete a version that never had a role; where there is none, nothing happens.

        Raises:
            Unavailable: MLflow is away.
        """
        try:
            self._api.delete("model-versions/delete", {"name": model, "version": str(version)})
        except MlflowRefused as error:
            if not error.missing:
                raise

    def pass_over(self, model: str, run_id: str) -> int:
        """Use up the next number of a model; it is answered.

        Raises:
            Unavailable: MLflow is away.
        """
        body = {"name": model, "source": f"runs:/{run_id}/model", "run_id": run_id}
        number = int(self._api.post("model-versions/create", body)["model_version"]["version"])
        self.drop(model, number)
        return number

    def version_tags(self, model: str, version: int) -> dict[str, str]:
        """The tags of a version.

        Raises:
            UnknownVersion: there is no such version.
            Unavailable: MLflow is away.
        """
        return self.version(model, version).tags

    def version(self, model: str, version: int) -> VersionInfo:
        """What MLflow knows of a version.

        Raises:
            UnknownVersion: there is no such version.
            Unavailable: MLflow is away.
        """
        with known(model, version):
            answer = self._api.get("model-versions/get", name=model, version=str(version))
        return read_version(answer["model_version"])

    def digest(self, model: str, version: int) -> str:
        """The digest that a version was registered with.

        Raises:
            UnknownVersion: there is no such version.
            ArtifactError: it was registered without one, by somebody else than us.
            Unavailable: MLflow is away.
        """
        if found := self.version(model, version).digest:
            return found
        raise ArtifactError(
            f"Version {version} of '{model}' was registered without a digest.",
            remedy="Register it through the pipeline.",
            model=model,
            version=version,
        )

    def exists(self, model: str, version: int) -> bool:
        """Whether MLflow has that version.

        Raises:
            Unavailable: MLflow is away.
        """
        try:
            self.version(model, version)
        except UnknownVersion:
            return False
        return True

    def list_versions(self, model: str) -> list[VersionInfo]:
        """Every version of a model, oldest first; empty where there is no such model.

        Raises:
            Unavailable: MLflow is away.
        """
        return self._search(f"name = '{_quoted(model)}'")

    def fetch(
        self,
        model: str,
        version: int,
        cache_dir: Path,
        part: str = "model",
        digest: str | None = None,
    ) -> Path:
        """The folder of a version's artifact, downloaded once and verified at every call.

        Args:
            model: The registered model's name.
            version: Which one.
            cache_dir: Where copies live, by digest.
            part: `model`, or another sealed folder beside it in the run: `replay`.
            digest: What the artifact has to be. Where not given, what MLflow says; while
                MLflow is away, what it said when the copy was made.

        Raises:
            UnknownVersion: there is no such version.
            ArtifactError: it is not what was registered, or was registered without a digest.
            Unavailable: MLflow is away and there is no copy.
        """
        cache = ArtifactCache(cache_dir)
        info: VersionInfo | None = None
        away: Unavailable | None = None
        if digest is None:
            try:
                info = self.version(model, version)
                digest = self.digest(model, version) if not info.digest else info.digest
            except Unavailable as error:
                away = error
                digest = cache.digest_of(model, version)
                if digest is None:
                    raise
        copy = cache.find(digest, part)
        if copy is None:
            if away is not None:
                raise away
            info = info or self.version(model, version)
            copy = cache.store(
                digest,
                part,
                lambda path, limit: self._api.download(info.run_id, f"{part}/{path}", limit),
            )
        cache.remember(model, version, digest)
        return copy

    def metrics(self, run_id: str) -> dict[str, float]:
        """The newest value of each metric of a run; none where the run is gone.

        Raises:
            Unavailable: MLflow is away.
        """
        try:
            run = self._api.get("runs/get", run_id=run_id)["run"]
        except MlflowRefused:
            return {}
        return {each["key"]: float(each["value"]) for each in run["data"].get("metrics", [])}

    def document(self, model: str, version: int, name: str, limit: int) -> bytes:
        """A text that lies beside a version in its run: its card, its lineage.

        Args:
            model: The registered model's name.
            version: Which one.
            name: Of the file, below the run's artifacts.
            limit: Bytes, at most.

        Raises:
            UnknownVersion: there is no such version.
            ArtifactError: it has no such document, or a larger one.
            Unavailable: MLflow is away.
        """
        return self._api.download(self.version(model, version).run_id, name, limit)

    def _ensure_model(self, model: str) -> None:
        try:
            self._api.post("registered-models/create", {"name": model})
        except (MlflowRefused, Unavailable) as error:
            # Two that create at once: the loser is told so, or (PostgreSQL) given the raw
            # database error. Whether it is there now is what counts.
            if error.fields.get("error_code") == EXISTS:
                return
            try:
                self._api.get("registered-models/get", name=model)
            except MlflowRefused:
                raise error from None

    def _of_work(self, model: str, work_key: str) -> list[int]:
        found = self._search(
            f"name = '{_quoted(model)}' AND tags.`{WORK_TAG}` = '{_quoted(work_key)}'"
        )
        return [info.version for info in found]

    def _drop_doubles(self, model: str, versions: list[int]) -> None:
        if len(versions) < 2:
            return
        pointed = set(self.aliases(model).values())
        for double in versions[1:]:
            if double in pointed:  # somebody gave it a role: theirs to decide
                continue
            self.drop(model, double)

    def _search(self, condition: str) -> list[VersionInfo]:
        found: list[VersionInfo] = []
        query: dict[str, str | int] = {"filter": condition, "max_results": PAGE}
        while True:
            answer = self._api.get("model-versions/search", **query)
            found += [read_version(item) for item in answer.get("model_versions", [])]
            if not (token := answer.get("next_page_token")):
                return sorted(found, key=lambda info: info.version)
            query["page_token"] = token


def _quoted(text: str) -> str:
    if "'" in text or "`" in text:
        raise ArtifactError(
            f"{text!r} holds a quotation mark, which MLflow's search cannot carry.",
            remedy="Use a name or key without one.",
        )
    return text
