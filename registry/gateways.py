"""The gateways of one database, as each said of itself last.

A gateway sends numbered messages: that it is there, what it serves, and what it counted. The
number makes each of them count once: a message whose transaction may or may not have been kept is
sent again, and does nothing where it was.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

from sqlalchemy import delete, select, update
from sqlalchemy.orm import Session

from registry.input_counts import InputCounts, add_parts
from registry.statements import columns_of, insert
from registry.tables import GatewayRow

SILENT = timedelta(seconds=5)  # without a message: it is gone, and nobody waits for it
REMEMBERED = timedelta(hours=1)  # after its end


@dataclass(frozen=True)
class GatewayInfo:
    """One gateway.

    Args:
        id: Of this process.
        host: The machine's name.
        pid: Of its process there.
        started_at: When it came.
        seen_at: When it sent its last message.
        ended_at: When it ended, or fell silent.
        gone: Whether it fell silent.
        counted_until: The first window of time whose inputs it may still bring.
        serving: For each model the `generation` that it obeys (0: it has none loaded) and the
            one that its answers have `shown`.
    """

    id: str
    host: str
    pid: int
    started_at: datetime
    seen_at: datetime
    ended_at: datetime | None
    gone: bool
    counted_until: int
    serving: Mapping[str, Mapping[str, int]]

    def is_live(self, now: datetime) -> bool:
        """Whether it sent a message within `SILENT`, and did not say that it ends."""
        return self.ended_at is None and self.seen_at >= now - SILENT

    @property
    def name(self) -> str:
        """As people tell it from others."""
        return f"{self.host}/{self.pid}"

    @property
    def state(self) -> Literal["live", "ended", "gone"]:
        """What became of it."""
        return "live" if self.ended_at is None else "gone" if self.gone else "ended"


@dataclass(frozen=True)
class Message:
    """What a gateway says of itself.

    Args:
        number: 1, 2, 3, without a gap.
        at: Now.
        counted_until: As in `GatewayInfo`.
        serving: As in `GatewayInfo`.
        counts: What it counted since its last message.
        last: Whether it ends.
    """

    number: int
    at: datetime
    counted_until: int
    serving: Mapping[str, Mapping[str, int]]
    counts: tuple[InputCounts, ...] = ()
    last: bool = False


def enter_gateway(session: Session, gateway_id: str, host: str, pid: int, message: Message) -> None:
    """Let a gateway be known from a message on, which is to be taken next."""
    session.execute(
        insert(session, GatewayRow).values(
            id=gateway_id,
            host=host[:255],
            pid=pid,
            started_at=message.at,
            seen_at=message.at,
            ended_at=None,
            gone=False,
            sent=message.number - 1,
            counted_until=message.counted_until,
            serving={},
        )
    )


def take_message(session: Session, gateway_id: str, message: Message) -> bool:
    """Keep a message, once; False where it had been kept already.

    Raises:
        LookupError: nobody knows the gateway any more: `enter_gateway` comes first.
    """
    changed = session.scalar(
        update(GatewayRow)
        .where(GatewayRow.id == gateway_id, GatewayRow.sent == message.number - 1)
        .values(
            sent=message.number,
            seen_at=message.at,
            ended_at=message.at if message.last else None,
            gone=False,
            counted_until=message.counted_until,
            serving={model: dict(said) for model, said in message.serving.items()},
        )
        .returning(GatewayRow.id)
    )
    if changed is None:
        query = select(GatewayRow.sent).where(GatewayRow.id == gateway_id)
        if session.scalar(query) is None:
            raise LookupError(gateway_id)
        return False
    add_parts(session, message.counts)
    return True


def live_gateways(session: Session, now: datetime) -> list[GatewayInfo]:
    """Those that are live, the oldest first."""
    return [one for one in known_gateways(session) if one.is_live(now)]


def behind(gateways: Iterable[GatewayInfo], model: str, generation: int) -> list[GatewayInfo]:
    """Those whose answers have not shown a routing; one that has nothing loaded answers nothing."""
    return [
        one
        for one in gateways
        if (said := one.serving.get(model)) is not None
        and said["generation"]
        and said["shown"] < generation
    ]


def known_gateways(session: Session) -> list[GatewayInfo]:
    """All that are remembered, the oldest first."""
    query = columns_of(GatewayRow).order_by(GatewayRow.started_at, GatewayRow.id)
    return _infos(session.execute(query).mappings())


def mark_gone(session: Session, now: datetime) -> list[GatewayInfo]:
    """Note which gateways have fallen silent since the last call; each is told of once."""
    silent = (
        update(GatewayRow)
        .where(GatewayRow.ended_at.is_(None), GatewayRow.seen_at < now - SILENT)
        .values(ended_at=GatewayRow.seen_at, gone=True)
        .returning(GatewayRow.id)
    )
    found = session.scalars(silent).all()
    if not found:
        return []
    return [one for one in known_gateways(session) if one.id in found]


def forget_gateways(session: Session, now: datetime) -> None:
    """Remove what ended long ago."""
    session.execute(delete(GatewayRow).where(GatewayRow.ended_at < now - REMEMBERED))


def _infos(rows: Iterable[Mapping[Any, Any]]) -> list[GatewayInfo]:
    names = GatewayInfo.__dataclass_fields__
    return [GatewayInfo(**{name: row[name] for name in names}) for row in rows]
