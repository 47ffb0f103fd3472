"""What acts: Prefect flows, thin over the rooms below, and the deployments that start them.

| module | what others may use |
|---|---|
| `flows.pipeline`, `flows.retrain`, `flows.rollback`, `flows.report` | the flow of that name |
| `flows.deployments` | `deployments`, `register`, `serve`; `python -m flows` serves them |
| `flows.environment` | `prepare`, before Prefect is imported |
| `flows.learning` | training and judging a candidate: plain functions, without a server |

Nothing is imported here: a name such as `flows.retrain` stays the module that Prefect looks up.
"""
