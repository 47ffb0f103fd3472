"""Our part of a version's description in MLflow: what became of it, in words for its page.

It stands first, since the page's table of versions shows how a description begins. It goes from a
line that begins as none of an author's would to a mark that the page does not show, and is
replaced as a whole; what an author wrote around it stays, letter by letter.
"""

from __future__ import annotations

import html
import re
from datetime import UTC, datetime
from urllib.parse import quote

BEGIN, END = "Homeostat says: ", "<!-- end of what Homeostat says -->"
OURS = re.compile(rf"^{re.escape(BEGIN)}.*?{re.escape(END)}\n{{0,2}}", re.DOTALL | re.MULTILINE)
LONGEST = 5000  # characters of a description that MLflow keeps on any database
LONGEST_REASON = 600

WORDS = {
    "waiting": ("Waiting", "It cannot be tried yet."),
    "loading": ("Loading", "It is fetched, checked and warmed; the traffic is where it was."),
    "shadow": ("On trial, in shadow", "It answers along unseen; callers get the champion's."),
    "canary": ("On trial, in canary", "It answers a share of the callers."),
    "serving": ("Serving", "It answers the traffic."),
    "standby": ("Standby", "It is kept warm: traffic goes back to it in one swap."),
    "rejected": ("Rejected", "It did not get the traffic that was asked for it."),
    "quarantined": ("Quarantined", "Its files may not answer until a person lets them go."),
    "rolled_back": ("Rolled back", "It served, and the traffic was taken from it."),
    "withdrawn": ("Withdrawn", "Somebody ended its trial."),
    "retired": ("Retired", "It has no part in the traffic any more."),
}


def outcome_text(
    model: str, state: str, reason: str, since: str, notice: str = "", page: str = ""
) -> str:
    """What became of a version, as Markdown.

    Args:
        model: The registered model's name.
        state: As its tag says it; `canary:25` for a share in percent. Empty: none yet.
        reason: Why, in sentences.
        since: Since when, in ISO format; anything else is left out.
        notice: What else a person at this page has to know.
        page: Where the page of on-call is; empty: it is not linked.
    """
    lines = []
    if state:
        name, _, share = state.partition(":")
        title, words = WORDS.get(name, (name, ""))
        title += f", {share} %" if share else ""
        lines += [f"{title}{_when(since)}. {words}", f"**Why:** {_plain(reason)}"]
    if notice:
        lines.append(f"**Note:** {_plain(notice)}")
    if not lines:
        return ""
    linked = f"[its page]({page}/page/models/{quote(model, safe='')}) or " if page else ""
    lines.append(f"The whole story: {linked}`homeostat history {_plain(model)}`")
    return BEGIN + "\n\n".join(lines)


def with_outcome(description: str, ours: str) -> str | None:
    """A description with our part replaced, or None where the whole would be too long.

    Args:
        description: As it stands, with or without our part.
        ours: The new part; empty takes it out.
    """
    theirs = OURS.sub("", description).replace(END, "")
    whole = f"{ours}\n\n{END}\n\n{theirs}" if ours else theirs
    return whole if len(whole) <= LONGEST else None


def _when(since: str) -> str:
    try:
        return f" since {datetime.fromisoformat(since).astimezone(UTC):%Y-%m-%d %H:%M} UTC"
    except ValueError:
        return ""


def _plain(text: str) -> str:
    """Text that can neither be taken for markup nor end our part."""
    short = " ".join(text.split())
    if len(short) > LONGEST_REASON:
        short = f"{short[: LONGEST_REASON - 1]}…"
    return html.escape(short, quote=False)
