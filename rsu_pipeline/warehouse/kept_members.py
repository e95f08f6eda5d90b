"""What stays of a JSON column when a person's data is blanked, as SQL."""

from dataclasses import dataclass


class Rest:
    """What stays of a JSON column when it is blanked."""

    def kept(self, json: str, kind: str = "jsonb", alias: str = "m") -> str:
        """Return SQL for what stays of a JSON value. `kind` is its type, json or jsonb."""
        raise NotImplementedError


@dataclass(frozen=True)
class Members(Rest):
    """The members of a JSON object that stay: those in `names`, and of the one named `part` what `of_part` keeps."""

    names: tuple[str, ...]
    part: str = ""
    of_part: "Members | None" = None

    def kept(self, json: str, kind: str = "jsonb", alias: str = "m") -> str:
        """Return SQL for the object without any other member, or NULL if it is not an object."""
        value = f"{alias}.value"
        if self.of_part:
            rest = self.of_part.kept(value, kind, f"{alias}m")
            value = f"CASE {alias}.key WHEN '{self.part}' THEN {rest} ELSE {value} END"
        return (
            f"CASE WHEN {kind}_typeof({json}) = 'object' THEN (SELECT coalesce({kind}_object_agg({alias}.key, {value}), '{{}}')"
            f" FROM {kind}_each({json}) {alias} WHERE {alias}.key = ANY ({self._listed()})) END"
        )

    def exceeded(self, json: str, kind: str = "jsonb", alias: str = "m") -> str:
        """Return SQL for whether anything would go. It is not true for NULL.

        A member may occur twice in json, so each is examined.
        """
        is_more = f"{alias}.key <> ALL ({self._listed()})"
        if self.of_part:
            rest = self.of_part.exceeded(f"{alias}.value", kind, f"{alias}m")
            is_more += f" OR {alias}.key = '{self.part}' AND {rest}"
        return (
            f"CASE WHEN {kind}_typeof({json}) = 'object' THEN EXISTS (SELECT FROM {kind}_each({json}) {alias} WHERE {is_more})"
            f" ELSE {json}::text <> 'null' END"
        )

    def _listed(self) -> str:
        return f"'{{{','.join(filter(None, (*self.names, self.part)))}}}'::text[]"


class TeamBib(Rest):
    """The part of a team that its bib needs, so that it counts as its members'. Without it they would be duplicates."""

    def kept(self, json: str, kind: str = "jsonb", alias: str = "m") -> str:
        """Return SQL for the team's id and bib, or NULL if it has no bib."""
        return (
            f"CASE WHEN rsu_bib(NULL, {json}) IS NOT NULL THEN jsonb_build_object('team_id', {json} -> 'team_id',"
            f" 'team_bib_num', {json} -> 'team_bib_num') END"
        )
