"""`token`: who may call the gateway, and for what.

These write the lifecycle database itself: who may open it is an administrator already.
"""

from __future__ import annotations

import re
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, Any

import typer

from homeostat.commands.lineage import database
from homeostat.commands.output import AsJson, say, show_json, show_table, when
from homeostat.errors import InputError

if TYPE_CHECKING:
    from registry.tokens import Token

Name = Annotated[
    str, typer.Argument(metavar="NAME", help="Who holds it: the actor of what is done with it.")
]
UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
LONGEST = timedelta(days=3660)


def add_to(app: typer.Typer) -> None:
    """Register the commands of this file."""
    group = typer.Typer(
        help="Tokens of the gateway: who may do what with which models.", no_args_is_help=True
    )
    group.command()(create)
    group.command("list")(listed)
    group.command()(rotate)
    group.command()(revoke)
    app.add_typer(group, name="token")


def create(
    name: Name,
    verb: Annotated[
        list[str],
        typer.Option(
            "--verb",
            metavar="VERB",
            help="read, predict, label, promote, rollback or admin; give it once for each.",
        ),
    ],
    model: Annotated[
        list[str] | None,
        typer.Option("--model", metavar="MODEL", help="Once for each; none: all models."),
    ] = None,
    expires: Annotated[
        str, typer.Option("--expires", metavar="TIME", help="Such as 90d or 12h; never: no end.")
    ] = "90d",
    as_json: AsJson = False,
) -> None:
    """Make a token and print its secret, this once."""
    from homeostat.client import caller
    from homeostat.clock import utc_now
    from registry.tokens import create_token

    now = utc_now()
    end = None if expires == "never" else now + duration(expires)
    with database(read_only=False) as (settings, session):
        for each in model or ():
            settings.policy(each)
        made, secret = create_token(
            session, name, verb, model or (), actor=caller(), now=now, expires_at=end
        )
    _show_made(made, secret, as_json)


def listed(as_json: AsJson = False) -> None:
    """Show every token that ever was, without its secret."""
    from homeostat.clock import utc_now
    from registry.tokens import tokens

    with database(read_only=True) as (_, session):
        found = tokens(session)
    now = utc_now()
    if as_json:
        show_json([_plain(each) | {"works": each.works(now)} for each in found])
        return
    show_table(
        ("name", "key", "verbs", "models", "made", "by", "ends", "last used", "state"),
        [
            (
                each.name,
                each.key,
                " ".join(each.verbs),
                " ".join(each.models) or "all",
                when(each.created_at),
                each.created_by,
                when(each.expires_at) or "never",
                when(each.used_at) or "never",
                "works" if each.works(now) else "revoked" if each.revoked_at else "ended",
            )
            for each in found
        ],
        empty="There is none; the token of the state folder works: homeostat token create --help",
    )


def rotate(
    name: Name,
    overlap: Annotated[
        str,
        typer.Option("--overlap", metavar="TIME", help="How long the old secret works on: 24h."),
    ] = "24h",
    as_json: AsJson = False,
) -> None:
    """Give a token a new secret and print it, this once."""
    from homeostat.client import caller
    from homeostat.clock import utc_now
    from registry.tokens import rotate_token

    length = duration(overlap)
    with database(read_only=False) as (_, session):
        made, secret = rotate_token(session, name, length, actor=caller(), now=utc_now())
    _show_made(made, secret, as_json)
    if not as_json:
        say(f"Its older secret works on for {overlap}; then only this one does.")


def revoke(
    name: Name,
    reason: Annotated[str, typer.Option("--reason", help="Why; it is kept in the ledger.")] = "",
    as_json: AsJson = False,
) -> None:
    """Refuse a token, all its secrets, within two seconds."""
    from homeostat.client import caller
    from homeostat.clock import utc_now
    from registry.tokens import revoke_token

    with database(read_only=False) as (_, session):
        ended = revoke_token(session, name, actor=caller(), now=utc_now(), reason=reason)
    if as_json:
        show_json({"name": name, "revoked": [each.key for each in ended]})
    else:
        say(f"{name} is revoked: {', '.join(each.key for each in ended)}.")


def duration(text: str) -> timedelta:
    """A length of time as people write it: 90d, 12h, 30m, 45s, 2w; 0 is none.

    Raises:
        InputError: it is not one, or longer than ten years.
    """
    found = re.fullmatch(r"(\d{1,9})([smhdw])", "0s" if text == "0" else text)
    length = timedelta(**{UNITS[found[2]]: int(found[1])}) if found else None
    if length is None or length > LONGEST:
        raise InputError(
            f"'{text}' is not a length of time here.", remedy="Write 90d, 12h, 30m, 45s or 2w."
        )
    return length


def _show_made(made: Token, secret: str, as_json: bool) -> None:
    if as_json:
        show_json(_plain(made) | {"secret": secret})
        return
    models = ", ".join(made.models) or "all models"
    end = f"until {when(made.expires_at)} UTC" if made.expires_at else "without an end"
    say(f"{made.name} may {', '.join(made.verbs)}: {models}, {end}.")
    say("The secret is shown this once:")
    say(secret)


def _plain(token: Token) -> dict[str, Any]:
    """A token as JSON, without the hash of its secret, which is nobody's business."""
    from dataclasses import asdict

    shown = {name: value for name, value in asdict(token).items() if name != "hash"}
    return {
        name: value.isoformat() if hasattr(value, "isoformat") else value
        for name, value in shown.items()
    }
