"""Steps of an operator: privacy, removals that wait for a person, partners switched off and on."""

from rsu_pipeline.warehouse import privacy
from rsu_pipeline_tests.proof.season.programs import pick, step
from rsu_pipeline_tests.proof.season.world import World


class PeopleSteps(World):
    """See the module."""

    @step(pick=pick)
    def erase_person(self, pick: int) -> None:
        """Erase a person whom the hub knows, everywhere."""
        with self.conn.cursor() as cur:
            cur.execute(
                "SELECT DISTINCT registration_id FROM runsignup_participants WHERE timing_partner_id = ANY (%s) ORDER BY 1",
                (self.partners,),
            )
            stored = [number for (number,) in cur.fetchall()]
        self.conn.rollback()
        if stored:
            chosen = stored[pick % len(stored)]
            privacy.erase_person(self.conn, registration_id=chosen, who="operator")
            self.erased |= self._same_person(chosen)

    def _same_person(self, registration_id: int) -> set[int]:
        """Return the registration and what it was before a transfer and became by one."""
        pointers = {
            row["registration_id"]: row["new_registration_id"]
            for partner in self.partners
            for row in self.truth(partner)["removed"]
            if row["new_registration_id"]
        }
        found, size = {registration_id}, 0
        while len(found) > size:
            size = len(found)
            found |= {new for old, new in pointers.items() if old in found}
            found |= {old for old, new in pointers.items() if new in found}
        return found

    @step(is_possible=lambda self: not self.is_purged)
    def purge_contact_data(self) -> None:
        privacy.purge_contact_rows(self.conn, self.clocks.hub_now().date(), now=self.clocks.hub_now(), who="operator")
        self.is_purged = True

    @step()
    def confirm_removals(self) -> None:
        self.work(lambda: self.installation.confirm_pending_removals(self.keys))

    @step(is_possible=lambda self: not self.disabled, pick=pick)
    def disable_partner(self, pick: int) -> None:
        partner = self.partners[pick % len(self.partners)]
        self._switch(partner, is_on=False)
        self.disabled.add(partner)

    @step(is_possible=lambda self: self.disabled)
    def enable_partners(self) -> None:
        for partner in self.disabled:
            self._switch(partner, is_on=True)
        self.disabled.clear()

    def _switch(self, partner: int, *, is_on: bool) -> None:
        with self.conn.cursor() as cur:
            cur.execute(
                "UPDATE timing_partners SET disabled_at = CASE WHEN NOT %s THEN now() END WHERE timing_partner_id = %s",
                (is_on, partner),
            )
        self.conn.commit()
