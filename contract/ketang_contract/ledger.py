"""What became of every number a store ever gave out. Pure; the centre keeps one per stream."""

from dataclasses import dataclass, replace

from ketang_contract.ranges import NOTHING, RangeSet


@dataclass(frozen=True, slots=True)
class Ledger:
    """Disjoint sets of numbers. At rest ``head = stored + dropped + refused``.

    ``stored`` wins over the others, ``refused`` over ``dropped``: a record that came after all is
    no loss. Quarantined copies (same number, other content) are counted in ``stored`` once, by the
    content that came first, and apart in ``quarantined``.
    """

    head: int = 0
    stored: RangeSet = NOTHING
    dropped: RangeSet = NOTHING
    refused: RangeSet = NOTHING
    quarantined: int = 0

    def with_head(self, head: int) -> "Ledger":
        """Take a head a device names; it never goes back."""
        return self if head <= self.head else replace(self, head=head)

    def with_stored(self, seqs: RangeSet) -> "Ledger":
        """Rows that are durable."""
        return replace(
            self,
            stored=self.stored | seqs,
            dropped=self.dropped - seqs,
            refused=self.refused - seqs,
        )

    def with_refused(self, seqs: RangeSet) -> "Ledger":
        """Numbers whose content can never be accepted."""
        new = seqs - self.stored
        return replace(self, refused=self.refused | new, dropped=self.dropped - new)

    def with_dropped(self, seqs: RangeSet) -> "Ledger":
        """Numbers the device says will never come."""
        return replace(self, dropped=self.dropped | (seqs - self.stored - self.refused))

    @property
    def known(self) -> RangeSet:
        """Every number that is accounted for."""
        return self.stored | self.dropped | self.refused

    @property
    def missing(self) -> RangeSet:
        """Numbers given out and not accounted for: on their way, or abandoned with their store."""
        return RangeSet.span(1, self.head) - self.known

    @property
    def balanced(self) -> bool:
        """Whether every number is accounted for."""
        return not self.missing
