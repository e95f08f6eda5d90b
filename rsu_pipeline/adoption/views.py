"""The views that displays and scoring read: dropped while their columns change, and recreated.

They get the same columns in the same order, readable by the same roles. This program's part of a view is what the migrations
make: active registrations and indexed columns. The rows of other providers in an older view stay, read from its own
definition.
"""

import re
from collections.abc import Mapping

from rsu_pipeline.adoption.shape import Shape, View, ident, literal
from rsu_pipeline.adoption.steps import AdoptionRefusedError, Phase, Step, listing
from rsu_pipeline.warehouse.credentials import PROVIDER

TELLTALE = {
    "unified_participants": ("runsignup_participants", "removed_at"),
    "unified_events": ("runsignup_events", "gone_at"),
    "race_owners": ("partner_races", "lost_at"),
    "start_list": ("start_list_entries", "registration_id"),
    "participant_answers": ("runsignup_participants", "answers"),
    "participant_addons": ("runsignup_participants", "addons"),
    "participant_memberships": ("runsignup_participants", "memberships"),
    "reader_partners": ("timing_partners", "partition_key"),
    "reader_races": ("runsignup_races", "detail_as_of"),
    "reader_events": ("runsignup_events", "gone_at"),
    "reader_participants": ("runsignup_participants", "removed_at"),
    "partner_entrants": ("start_list_entries", "bib_source"),
    "entrants": ("partner_entrants", "registration_id"),
}
"""By view, a column that only this program's version reads."""


def is_ours(view: View) -> bool:
    return TELLTALE[view.name] in view.reads


def refuse_unknown_columns(theirs: View, ours: View) -> None:
    """Raise Refused for a view with other columns than displays are known to read."""
    if odd := [*sorted(theirs.columns.keys() - ours.columns), *sorted(ours.columns.keys() - theirs.columns)]:
        word = "has a column" if odd[0] in theirs.columns else "lacks the column"
        raise AdoptionRefusedError(
            f"View {theirs.name} {word} {odd[0]}, which is not expected: rename the view, and adopt again."
        )


def view_steps(found: Shape, wanted: Shape) -> list[Step]:
    """Return steps for each view that is not this program's yet."""
    steps = []
    for ours in order_by_dependency(wanted.views):
        name = ours.name
        theirs = found.views.get(name)
        if theirs is None:
            steps.append(Step(name, Phase.VIEWS, "made", (_create(ours, ours.definition, ""), *_comments(ours))))
        elif not is_ours(theirs):
            others = sorted(set(theirs.relations) - wanted.tables.keys())
            sentence = "put back with the same columns, without registrations and events that are gone"
            if others:
                sentence += f"; what it has of other providers stays ({listing(others)})"
            if theirs.grants:
                sentence += f"; {len(theirs.grants)} grants given again"
            definition = _definition(theirs, ours, keep_others=bool(others))
            owner = [
                # A view reads with the rights of its owner.
                f"GRANT SELECT ON {', '.join(map(ident, sorted(set(ours.relations))))} TO {ident(theirs.owner)}",
                f"ALTER VIEW {ident(name)} OWNER TO {ident(theirs.owner)}",
            ] * (theirs.owner != found.user)
            triggers = [trigger.definition for trigger in theirs.triggers]
            sql = [_create(ours, definition, theirs.options), *_comments(ours), *triggers, *theirs.grants, *owner]
            steps += [
                Step(name, Phase.VIEWS_DOWN, "", (f"DROP VIEW {ident(name)}",)),
                Step(name, Phase.VIEWS, sentence, tuple(sql)),
            ]
    return steps


def _create(view: View, definition: str, options: str) -> str:
    return f"CREATE VIEW {ident(view.name)}{f' WITH ({options})' if options else ''} AS {definition}"


def order_by_dependency(views: Mapping[str, View]) -> list[View]:
    """Return the views in an order in which each can be created: after the views that it reads."""
    ordered: dict[str, View] = {}

    def add(view: View) -> None:
        for relation in view.relations:
            if relation in views:
                add(views[relation])
        ordered.setdefault(view.name, view)

    for view in views.values():
        add(view)
    return list(ordered.values())


def _comments(view: View) -> list[str]:
    columns = [
        f"COMMENT ON COLUMN {ident(view.name)}.{ident(name)} IS {literal(text)}"
        for name, text in view.column_comments.items()
    ]
    return [f"COMMENT ON VIEW {ident(view.name)} IS {literal(view.comment or '')}", *columns]


def _definition(theirs: View, ours: View, *, keep_others: bool) -> str:
    """Return this program's definition with the older view's order and types, and its rows of other providers if any."""
    if theirs.columns == ours.columns and list(theirs.columns) == list(ours.columns) and not keep_others:
        return ours.definition
    columns = ", ".join(f"u.{ident(name)}{_cast(name, theirs, ours)} AS {ident(name)}" for name in theirs.columns)
    definition = f"SELECT {columns} FROM ({ours.definition}) u"
    if keep_others:
        names = ", ".join(f"o.{ident(name)}{_cast(name, theirs, theirs)}" for name in theirs.columns)
        definition += (
            f" UNION ALL SELECT {names} FROM ({theirs.definition}) o"
            f" WHERE lower(o.source_provider) IS DISTINCT FROM {literal(PROVIDER)}"
        )
    return definition


def _cast(name: str, theirs: View, ours: View) -> str:
    """Return a cast to the older view's type. A `varchar` loses its limit, because a longer value would be cut."""
    kind = re.sub(r"^character varying\(\d+\)$", "character varying", theirs.columns[name])
    return "" if kind == ours.columns[name] else f"::{kind}"
